// What an image says of itself, without serving it: its header, its snapshots and its bitmaps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/format/compression_type.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/offline/bitmap_directory.h"

namespace qcow2 {

struct ImageInfo {
  std::string path;
  unsigned version = 0;
  std::uint64_t virtual_size = 0;    ///< bytes
  std::uint64_t file_size = 0;       ///< bytes to the end of the image file
  std::uint64_t allocated_size = 0;  ///< bytes that the image file takes on its file system
  std::uint64_t cluster_size = 0;
  unsigned refcount_bits = 0;
  CompressionType compression = CompressionType::zlib;
  std::string backing_file;    ///< empty where there is none
  std::string backing_path;    ///< the same, as it is found from here
  std::string backing_format;  ///< empty where the image does not say
  std::string data_file;       ///< with an external data file: its name
  bool data_file_raw = false;
  std::vector<Snapshot> snapshots;
  std::vector<StoredBitmap> bitmaps;
  bool dirty = false;
  bool corrupt = false;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  bool external_data_file = false;
  bool encrypted = false;
};

/// Throws core::Error where `path` cannot be read, is not a qcow2 image, or has damaged tables of snapshots or bitmaps.
ImageInfo read_info(const std::string& path);

}  // namespace qcow2
