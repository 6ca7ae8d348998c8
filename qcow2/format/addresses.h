// The two axes of an image, and their clusters.
#pragma once

#include "core/offset.h"

namespace qcow2 {

using GuestOffset = core::DiskOffset;                       ///< byte as the guest sees the disk
using HostOffset = core::FileOffset;                        ///< byte in the image file, or see data_file_base
using GuestCluster = core::Index<struct GuestClusterAxis>;  ///< guest offset / cluster size
using HostCluster = core::Index<struct HostClusterAxis>;    ///< host offset / cluster size

/// Where an image has an external data file, its bytes follow behind all that the image file could have: this is its
/// first. In table entries they count from 0.
inline constexpr HostOffset data_file_base{1ull << 60};

/// Bytes in the image file: [at, at + length).
struct HostExtent {
  HostOffset at;
  std::uint64_t length = 0;
  friend constexpr bool operator==(const HostExtent&, const HostExtent&) = default;
};

/// Whole host clusters that one reference touches.
struct HostClusters {
  HostCluster first;
  std::uint64_t count = 0;
};

}  // namespace qcow2
