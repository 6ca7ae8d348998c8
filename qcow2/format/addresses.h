// The two axes of an image, and their clusters.
#pragma once

#include "core/offset.h"

namespace qcow2 {

using GuestOffset = core::DiskOffset;                       ///< byte as the guest sees the disk
using HostOffset = core::FileOffset;                        ///< byte in the image file
using GuestCluster = core::Index<struct GuestClusterAxis>;  ///< guest offset / cluster size
using HostCluster = core::Index<struct HostClusterAxis>;    ///< host offset / cluster size

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
