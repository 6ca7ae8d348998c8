// Writes an empty image.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "qcow2/format/compression_type.h"
#include "qcow2/format/header.h"

namespace qcow2 {

/// What is there of the disk before anything is written to it. Standard clusters, one behind the other.
enum class Preallocation {
  off,       ///< nothing
  metadata,  ///< the tables and the counts for all of it; its clusters are a hole of the file
  falloc,    ///< also space that the file system has set aside
  full,      ///< also zeros written there
};

struct CreateOptions {
  std::uint64_t size = 0;  ///< bytes of the disk; stored rounded up to 512, the unit of the format
  std::uint64_t cluster_size = 65536;
  unsigned refcount_bits = 16;
  CompressionType compression = CompressionType::zlib;
  bool extended_l2 = false;                          ///< for clusters of 16 KiB and more
  unsigned version = 3;                              ///< 2 has refcounts of 16 bits and zlib, and no zero clusters
  std::optional<BackingReference> backing = {};      ///< what it is derived from; neither looked at nor opened
  Preallocation preallocation = Preallocation::off;  ///< only without a backing file
  std::string name = {};                             ///< what messages call the image; empty: its path
};

/// Is told up to which byte of the file everything is made, and how far that will go.
using CreateProgress = std::function<void(std::uint64_t position, std::uint64_t end)>;

/// Creates `path`. An existing file is refused, and a failure leaves none behind. Throws core::Error.
void create_image(const std::string& path, const CreateOptions& options, const CreateProgress& progress = {});

}  // namespace qcow2
