#include "qcow2/allocation_difference.h"

#include <algorithm>

namespace qcow2 {
namespace {

std::uint64_t end_of(const ChainExtent& extent) { return extent.start + extent.length; }

bool are_alike(const ChainExtent& one, const ChainExtent& other) {
  return one.kind == other.kind && one.host_is_hole == other.host_is_hole &&
         one.host.has_value() == other.host.has_value();
}

// Behind the end of a file below there are zeros as if that file had them.
std::optional<ChainExtent> next_of(ChainMap& map) {
  std::optional<ChainExtent> extent = map.next();
  const bool lies_behind = extent && extent->kind == ExtentKind::unallocated && extent->depth + 1 < map.depths();
  if (lies_behind) {
    extent->kind = ExtentKind::zero;
    extent->host.reset();
  }
  return extent;
}

}  // namespace

std::optional<AllocationDifference> first_allocation_difference(ChainMap& left, ChainMap& right) {
  std::optional<ChainExtent> here = next_of(left);
  std::optional<ChainExtent> there = next_of(right);
  while (here && there) {
    if (!are_alike(*here, *there)) return AllocationDifference{std::max(here->start, there->start), *here, *there};
    const std::uint64_t left_end = end_of(*here);
    const std::uint64_t right_end = end_of(*there);
    if (left_end <= right_end) here = next_of(left);
    if (right_end <= left_end) there = next_of(right);
  }
  return std::nullopt;
}

}  // namespace qcow2
