// Host space set aside, so that "no space" is said when something is written, not when it is too late.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/async.h"
#include "core/block_file.h"
#include "qcow2/format/geometry.h"
#include "qcow2/host/block_use.h"
#include "qcow2/host/refcounts.h"

namespace qcow2 {

/// Free host clusters below a frontier are backed: the host's file system has promised space for all of them. Clusters
/// are taken only from there, and the frontier is pushed on before what was accepted could need more than is left.
///
/// Clusters smaller than a block are counted by chunks that are free as a whole, as fragments take no others.
///
/// Where the file system makes no promises, everything counts as backed: then a write may still have to wait for space
/// (core::PatientFile).
/// Threads    The engine's strand.
class SpaceReserve {
 public:
  /// `chunk` is what fragments take at a time, in clusters.
  SpaceReserve(core::BlockFile& file, Refcounts& refcounts, const Geometry& geometry, std::uint64_t chunk)
      : file_(file), refcounts_(refcounts), geometry_(geometry), chunk_(chunk) {}

  /// At least `clusters` free clusters are known to be backed.
  bool holds(std::uint64_t clusters) const { return !promised_ || free_ >= clusters; }
  /// Makes it so. Throws ENOSPC where the host has not that much.
  core::Awaitable<void> ensure(std::uint64_t clusters);
  /// Backs everything below `end`, as far as the host has space for it.
  core::Awaitable<void> back_up_to(HostCluster end);
  /// Space for these bytes, which are in use for nothing. False where the host has none.
  core::Awaitable<bool> back(HostExtent extent);
  /// Counts anew: clusters that were taken and never used are free again.
  core::Awaitable<void> recount();

  /// Gives the host back what nobody refers to, and what was set aside. Only when nothing is under way and whatever was
  /// unlinked is so durably; nothing may be taken afterwards.
  core::Awaitable<void> give_back(const BlockUse& block_use);
  /// Bytes set aside beyond byte `end` of the file.
  std::uint64_t set_aside_behind(std::uint64_t end) const {
    const std::uint64_t frontier = geometry_.start_of(frontier_).value;
    return promised_ && frontier > end ? frontier - end : 0;
  }

  void took(HostClusters clusters);
  void freed(HostCluster cluster);

 private:
  core::Awaitable<void> push_frontier(std::uint64_t clusters);
  core::Awaitable<void> count_anew();

  core::BlockFile& file_;
  Refcounts& refcounts_;
  Geometry geometry_;
  HostCluster frontier_{0};
  std::uint64_t chunk_;
  std::uint64_t free_ = 0;   ///< clusters below the frontier that nobody refers to; never too many
  std::uint64_t taken_ = 0;  ///< of them, ever
  bool stale_ = false;       ///< more may be free: of chunks that were taken in part, the rest came back
  bool promised_ = true;     ///< by the file system
  core::AsyncMutex pushing_;
};

}  // namespace qcow2
