// Who lives in a part of the image file.
#pragma once

#include <functional>
#include <vector>

#include "qcow2/flow/mover.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// Every guest cluster that is stored, at least in part, in a host cluster for which `wanted` says so, by host offset.
/// Reads the whole map. Clusters with subclusters are left out: they stay where they are. Gives up early, with what it
/// has, when `cancelled` says so.
/// Threads    The engine's strand.
core::Awaitable<std::vector<Resident>> find_residents(GuestMap& map, Geometry geometry, std::uint32_t version,
                                                      std::uint64_t disk_size,
                                                      const std::function<bool(HostCluster)>& wanted,
                                                      const std::function<bool()>& cancelled);

}  // namespace qcow2
