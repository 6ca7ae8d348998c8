#include "qcow2/flow/residents.h"

#include <algorithm>
#include <optional>

namespace qcow2 {
namespace {

std::optional<Resident> resident_of(GuestCluster guest, L2Entry entry, const Geometry& geometry,
                                    std::uint32_t version) {
  const Placement placement = decode_l2_entry(entry, geometry, version);
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    return Resident{guest, entry, compressed->extent, true};
  }
  const auto* standard = std::get_if<StandardCluster>(&placement);
  if (standard == nullptr || !standard->sole) return std::nullopt;
  return Resident{guest, entry, {standard->at, geometry.cluster_size()}, false};
}

}  // namespace

core::Awaitable<std::vector<Resident>> find_residents(GuestMap& map, Geometry geometry, std::uint32_t version,
                                                      std::uint64_t disk_size,
                                                      const std::function<bool(HostCluster)>& wanted,
                                                      const std::function<bool()>& cancelled) {
  std::vector<Resident> found;
  const GuestCluster end{geometry.guest_clusters(disk_size)};
  for (GuestCluster guest{0}; guest < end && !cancelled();) {
    GuestCluster nothing_ends{0};
    if (map.surely_unallocated(guest, nothing_ends)) {
      guest = std::min(nothing_ends, end);
      continue;
    }
    const std::optional<L2Entry> entry = map.find(guest);
    if (!entry) {
      co_await map.load(guest);
      continue;
    }
    const std::optional<Resident> resident = resident_of(guest, *entry, geometry, version);
    if (resident) {
      const HostClusters touched = geometry.clusters_touched(resident->extent);
      if (wanted(touched.first) || wanted(touched.first + (touched.count - 1))) found.push_back(*resident);
    }
    guest = guest + 1;
  }
  std::sort(found.begin(), found.end(),
            [](const Resident& one, const Resident& other) { return one.extent.at < other.extent.at; });
  co_return found;
}

}  // namespace qcow2
