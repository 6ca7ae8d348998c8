// Finds whole free host clusters, and grows the image where there are none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/async.h"
#include "qcow2/format/geometry.h"
#include "qcow2/host/refcounts.h"
#include "qcow2/host/space_reserve.h"

namespace qcow2 {

/// A cluster is free when nobody refers to it and nobody has reserved it. Its count falls to zero only after its last
/// name is durably gone and its last reader has left (see Reclaimer), so whatever is free may be overwritten at once.
///
/// Errors     Throws ENOSPC where the format has no room for more, else the device's error.
/// Threads    The engine's strand.
class ClusterAllocator {
 public:
  ClusterAllocator(Refcounts& refcounts, SpaceReserve& space, const Geometry& geometry)
      : refcounts_(refcounts), space_(space), geometry_(geometry) {}

  /// `count` clusters in a row, each now with one reference.
  core::Awaitable<HostOffset> allocate(std::uint64_t count);
  /// `count` clusters in a row, the first a multiple of `count`, kept from everyone else until released, no reference
  /// yet: for an owner that fills them bit by bit.
  core::Awaitable<HostClusters> reserve(std::uint64_t count);
  /// Reserves exactly these where they are free; false where they are not.
  core::Awaitable<bool> reserve_at(HostClusters clusters);
  /// Keeps a cluster that is in use already from being given out, should it become free meanwhile. Until release().
  void hold(HostCluster cluster);
  void release(HostClusters clusters);
  /// References were taken within what is reserved or held.
  void filled(HostClusters clusters);

  /// While the guard exists, nobody gets a cluster.
  core::Awaitable<core::AsyncMutex::Guard> pause() { return mutex_.lock(); }
  /// Below it no cluster is free.
  HostCluster lowest_free() const { return std::min(single_from_, run_from_); }

  /// Nobody refers to this one any more.
  void freed(HostCluster cluster);

 private:
  core::Awaitable<void> grow();
  void forget_lapsed(HostClusters clusters);
  core::Awaitable<HostCluster> search(std::uint64_t count, std::uint64_t alignment, HostCluster from);

  Refcounts& refcounts_;
  SpaceReserve& space_;
  Geometry geometry_;
  std::vector<HostClusters> reserved_;  // one or two
  std::vector<HostCluster> lapsed_;     // of them, those that became free and were not filled again
  HostCluster single_from_{1};          // below it no single cluster is free; cluster 0 is the header
  HostCluster run_from_{1};             // below it no reservable run is free
  core::AsyncMutex mutex_;
};

}  // namespace qcow2
