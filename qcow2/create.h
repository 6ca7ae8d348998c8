// Writes an empty image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "qcow2/format/compression_type.h"
#include "qcow2/format/header.h"

namespace qcow2 {

struct CreateOptions {
  std::uint64_t size = 0;  ///< bytes of the disk; stored rounded up to 512, the unit of the format
  std::uint64_t cluster_size = 65536;
  unsigned refcount_bits = 16;
  CompressionType compression = CompressionType::zlib;
  bool extended_l2 = false;                      ///< for clusters of 16 KiB and more
  unsigned version = 3;                          ///< 2 has refcounts of 16 bits and zlib, and no zero clusters
  std::optional<BackingReference> backing = {};  ///< what it is derived from; neither looked at nor opened
};

/// Creates `path`. An existing file is refused, and a failure leaves none behind. Throws core::Error.
void create_image(const std::string& path, const CreateOptions& options);

}  // namespace qcow2
