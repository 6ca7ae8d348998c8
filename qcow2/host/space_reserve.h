// Host space set aside, so that "no space" is said when something is written, not when it is too late.
#pragma once

#include <algorithm>
#include <boost/dynamic_bitset.hpp>
#include <cstdint>
#include <functional>

#include "core/async.h"
#include "core/block_file.h"
#include "qcow2/format/geometry.h"
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
  /// Backs these, which are free: where they lie far behind the frontier not what is between, which may be terabytes.
  /// False where the host has no space for them.
  core::Awaitable<bool> back_at(HostClusters clusters);
  /// Space for these bytes, which are in use for nothing. False where the host has none.
  core::Awaitable<bool> back(HostExtent extent);
  /// Counts anew: clusters that were taken and never used are free again.
  core::Awaitable<void> recount();

  /// Backs clusters that are about to be taken where they may not be, having had holes. False where the host has no
  /// space for them.
  core::Awaitable<bool> fill_holes(HostClusters clusters);
  /// The cluster is in use, and parts of it that nobody uses take no space on the host.
  void has_holes(HostCluster cluster);

  /// Something free may take space on the host.
  bool can_retreat() const { return promised_ && window_begin_ < std::max(window_end_, frontier_); }
  /// Gives back what is free, and what was set aside, and cuts off the file's end; `lowest` is the first free cluster.
  /// Nobody may take clusters meanwhile, and whatever was unlinked must be so durably. Nothing happens unless `idle()`
  /// says at the decisive instant that nothing is promised to anybody. Ends early when it no longer does, or after
  /// `runs_max` free runs.
  core::Awaitable<void> retreat(HostCluster lowest, const std::function<bool()>& idle, std::uint64_t runs_max);
  /// The next retreat() looks at all of the file.
  void look_everywhere() { window_begin_ = HostCluster{0}; }
  /// Cuts off what is free at the file's end, by multiples of `unit` clusters, and nothing else.
  core::Awaitable<void> cut_tail(std::uint64_t unit);
  /// Bytes set aside beyond byte `end` of the file.
  std::uint64_t set_aside_behind(std::uint64_t end) const {
    const std::uint64_t frontier = geometry_.start_of(frontier_).value;
    return promised_ && frontier > end ? frontier - end : 0;
  }

  void took(HostClusters clusters);
  void freed(HostCluster cluster);

  /// For who has no file system to ask.
  core::Awaitable<void> count_in_use();
  /// Clusters that somebody refers to, or has taken to: correct since count_in_use(), but for those that were given
  /// back unused.
  std::uint64_t in_use() const { return in_use_; }

 private:
  core::Awaitable<void> push_frontier(std::uint64_t clusters);
  core::Awaitable<void> back_rest_of_last_chunk();
  core::Awaitable<void> back_range(HostCluster from, HostCluster to);
  core::Awaitable<void> count_anew();
  core::Awaitable<std::uint64_t> free_with_holes();
  bool hole(HostCluster cluster) const { return cluster.value < holes_.size() && holes_.test(cluster.value); }
  void forget_holes(HostClusters clusters);
  core::Awaitable<void> punch(HostClusters clusters);

  core::BlockFile& file_;
  Refcounts& refcounts_;
  Geometry geometry_;
  HostCluster frontier_{0};
  std::uint64_t chunk_;
  std::uint64_t free_ = 0;   ///< clusters below the frontier that nobody refers to; never too many
  std::uint64_t taken_ = 0;  ///< of them, ever
  std::uint64_t in_use_ = 0;
  bool stale_ = false;             ///< more may be free: of chunks that were taken in part, the rest came back
  bool promised_ = true;           ///< by the file system
  boost::dynamic_bitset<> holes_;  ///< clusters that were in use with holes: not backed when they become free
  HostClusters apart_{};           ///< backed, behind the frontier
  HostCluster window_begin_{0};    ///< free clusters in [begin, max(end, frontier)) may take space on the host
  HostCluster window_end_{0};
  core::AsyncMutex pushing_;
};

}  // namespace qcow2
