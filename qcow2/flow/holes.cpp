#include "qcow2/flow/holes.h"

#include <algorithm>

namespace qcow2 {

GuestCluster Holes::end_of_nothing(GuestCluster cluster, GuestOffset limit) const {
  const GuestCluster last{geometry_.guest_clusters(limit.value)};
  GuestCluster end = cluster;
  if (rooms_.backing.covers(geometry_.start_of(cluster))) return cluster;
  if (!rooms_.map.surely_unallocated(cluster, end)) return cluster;
  return rooms_.assembler.next_held(cluster, std::min(end, last));
}

core::Awaitable<std::uint64_t> Holes::seek(GuestOffset at, Sought sought, std::uint64_t disk_size) {
  const Readers::Ticket ticket = rooms_.readers.enter();
  while (at.value < disk_size) {
    const GuestCluster cluster = geometry_.cluster_of(at);
    GuestCluster next = end_of_nothing(cluster, GuestOffset{disk_size});
    bool hole = next > cluster;
    if (!hole) {
      next = cluster + 1;
      const std::uint64_t entry = co_await rooms_.map.entry_of(cluster);
      const Placement placement = decode_l2_entry(entry, geometry_, version_);
      const bool dirty = rooms_.assembler.holds(cluster);
      if (std::holds_alternative<Unallocated>(placement) && rooms_.backing.covers(at) && !dirty) {
        const std::uint64_t found = co_await seek_below(at, sought);
        if (found < geometry_.start_of(next).value) co_return std::min(found, disk_size);
        at = geometry_.start_of(next);
        continue;
      }
      hole = std::holds_alternative<Unallocated>(placement) || std::holds_alternative<ZeroCluster>(placement);
      hole = hole && !dirty;
    }
    if (hole == (sought == Sought::hole)) co_return at.value;
    at = geometry_.start_of(next);
  }
  co_return disk_size;
}

core::Awaitable<std::uint64_t> Holes::seek_below(GuestOffset at, Sought sought) {
  return sought == Sought::data ? rooms_.backing.next_data(at) : rooms_.backing.next_hole(at);
}

}  // namespace qcow2
