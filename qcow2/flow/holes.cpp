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
    const Stretch stretch = co_await stretch_at(at, disk_size);
    if (stretch.shows == Shows::below && rooms_.backing.covers(at)) {
      const std::uint64_t found = co_await seek_below(at, sought);
      if (found < stretch.end.value) co_return std::min(found, disk_size);
    } else if ((stretch.shows == Shows::data) == (sought == Sought::data)) {
      co_return at.value;
    }
    at = stretch.end;
  }
  co_return disk_size;
}

core::Awaitable<Holes::Stretch> Holes::stretch_at(GuestOffset at, std::uint64_t disk_size) {
  const GuestCluster cluster = geometry_.cluster_of(at);
  const GuestCluster nothing_ends = end_of_nothing(cluster, GuestOffset{disk_size});
  if (nothing_ends > cluster) co_return Stretch{Shows::zeros, geometry_.start_of(nothing_ends)};
  const L2Entry entry = co_await rooms_.map.entry_of(cluster);
  if (rooms_.assembler.holds(cluster)) co_return Stretch{Shows::data, geometry_.start_of(cluster + 1)};
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  const ClusterPart part = part_at(placement, geometry_.within_cluster(at), geometry_);
  co_return Stretch{part.what, geometry_.start_of(cluster) + part.end};
}

core::Awaitable<std::uint64_t> Holes::seek_below(GuestOffset at, Sought sought) {
  return sought == Sought::data ? rooms_.backing.next_data(at) : rooms_.backing.next_hole(at);
}

}  // namespace qcow2
