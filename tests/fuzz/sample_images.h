// Small sound images of every kind that the project writes: what fuzzing starts from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/open_image.h"

namespace fuzz {

using test::Bytes;

/// A table within an image: `count` entries of `width` bytes, big-endian.
struct Table {
  std::uint64_t at = 0;
  unsigned width = 8;
  std::uint64_t count = 0;
};

struct SampleImage {
  std::string name;
  Bytes content;
  std::uint64_t cluster_size = 0;
  std::vector<Table> tables;           ///< the header's fields, L1, L2, refcounts, snapshots, bitmaps
  std::vector<std::uint64_t> places;   ///< where something begins that an entry may name
  std::vector<Bytes> fragments;        ///< of the compressed clusters, to the end of their last sectors
  std::uint64_t snapshot_table = 0;    ///< 0: it has none
  std::uint64_t bitmap_extension = 0;  ///< of the header; 0: it has none
  bool zstd = false;
};

/// Made once, by the project's own writers.
const std::vector<SampleImage>& sample_images();

/// Opened without other files being looked for: what lies below an image that names one is a small disk in memory, and
/// an external data file is empty at first, and in memory too.
qcow2::ImageOptions options_for(const std::string& name);

}  // namespace fuzz
