// Whether two disks are allocated alike, byte for byte, whatever lies in their clusters.
#pragma once

#include <cstdint>
#include <optional>

#include "qcow2/chain_map.h"

namespace qcow2 {

struct AllocationDifference {
  std::uint64_t at = 0;  ///< byte of the disks
  ChainExtent left;      ///< what has it here and there
  ChainExtent right;
};

/// The first; nothing where there is none. Alike is what QEMU calls by the same status: allocated or not, data or
/// zeros, and with a place of its own in the file or without, as compressed data is. Which file of a chain it is in,
/// where there, and in clusters of which size, makes no difference; zeros behind the end of a backing file count as its
/// own. Reads both maps, of disks of the same size, from where they are to the end or to the difference. Throws what
/// they throw.
std::optional<AllocationDifference> first_allocation_difference(ChainMap& left, ChainMap& right);

}  // namespace qcow2
