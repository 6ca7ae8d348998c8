// Byte-granular space for compressed fragments, packed one behind the other in the open host clusters.
#pragma once

#include <cstdint>
#include <optional>

#include "core/alignment.h"
#include "qcow2/format/geometry.h"
#include "qcow2/host/block_use.h"
#include "qcow2/host/cluster_allocator.h"
#include "qcow2/host/compressed_write_cache.h"
#include "qcow2/host/refcounts.h"

namespace qcow2 {

/// The open space is a run of dead blocks among living fragments where there is one; else a chunk, max(cluster, fresh
/// block) bytes. While a fragment crosses from one chunk into the next, it is both. It is reserved while open: should
/// its last live fragment die meanwhile, nobody else gets the cluster that the cursor still points into.
///
/// Threads    The engine's strand; calls must not overlap (see Placer).
class FragmentAllocator {
 public:
  FragmentAllocator(ClusterAllocator& clusters, Refcounts& refcounts, SpaceReserve& space, BlockUse& block_use,
                    CompressedWriteCache& cache, const Geometry& geometry, std::uint64_t fresh_block);

  static std::uint64_t chunk_size(const Geometry& geometry, std::uint64_t fresh_block);
  static std::uint64_t chunk_clusters(const Geometry& geometry, std::uint64_t fresh_block) {
    return chunk_size(geometry, fresh_block) >> geometry.cluster_bits;
  }

  /// `length` bytes, at most a cluster, at a multiple of `alignment` (1, or the cluster size for a standard cluster
  /// smaller than a chunk). The clusters it touches have one reference more.
  core::Awaitable<HostOffset> allocate(std::uint64_t length, std::uint64_t alignment);
  /// What comes next starts in a fresh block: everything before it is about to become durable.
  void seal();
  /// While one exists, fragments go only where they leave no gaps: to whole free chunks.
  class DensePacking {
   public:
    explicit DensePacking(FragmentAllocator& fragments) : fragments_(fragments) { ++fragments_.dense_; }
    DensePacking(const DensePacking&) = delete;
    DensePacking& operator=(const DensePacking&) = delete;
    ~DensePacking() { --fragments_.dense_; }

   private:
    FragmentAllocator& fragments_;
  };
  /// Opens the first chunk at or behind `cluster`, where it is free.
  core::Awaitable<void> open_at(HostCluster cluster);
  /// Gives up the open space where a whole chunk is free before it.
  core::Awaitable<void> close_if_not_lowest();
  /// Gives up the open space.
  void close();

 private:
  core::Awaitable<bool> fits(HostOffset at, std::uint64_t length);
  core::Awaitable<bool> extend();
  core::Awaitable<bool> open_run(std::uint64_t length);
  core::Awaitable<void> open_chunk();
  HostOffset chunk_end(HostOffset at) const { return {core::align_down(at.value, chunk_) + chunk_}; }
  HostClusters chunk_of(HostOffset at) const;
  void pass_over(HostOffset at);
  void leave_filled_chunks();

  ClusterAllocator& clusters_;
  Refcounts& refcounts_;
  SpaceReserve& space_;
  BlockUse& block_use_;
  CompressedWriteCache& cache_;
  Geometry geometry_;
  std::uint64_t fresh_block_;
  std::uint64_t chunk_;  ///< bytes
  HostOffset begin_;     ///< [begin_, end_) is reserved; empty where nothing is open
  HostOffset end_;
  HostOffset cursor_;    ///< the next free byte
  int dense_ = 0;        ///< how many want it
  bool in_run_ = false;  ///< what is open is among living fragments
};

}  // namespace qcow2
