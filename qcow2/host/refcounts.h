// How many references every host cluster has.
//
// One view serves memory and disk alike, because it only ever errs on the safe side: a count rises as soon as space is
// taken (a power cut then leaves a leak), and falls only after the last name of that space is durably gone. So it may
// be written at any time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/async.h"
#include "core/engine.h"
#include "qcow2/format/geometry.h"
#include "qcow2/host/header_sector.h"
#include "qcow2/host/slice_cache.h"

namespace qcow2 {

/// Errors     Throws the device's error, or corrupt_image where a count contradicts the tables.
/// Threads    The engine's strand.
class Refcounts {
 public:
  /// `kept_bytes` of refcount blocks stay in memory, more only while they differ from the file.
  Refcounts(core::Engine& engine, core::BlockFile& file, HeaderSector& header, const Geometry& geometry,
            std::uint64_t kept_bytes);

  /// Reads the refcount table.
  core::Awaitable<void> open(HostOffset table, std::uint64_t table_clusters);

  core::Awaitable<std::uint64_t> count(HostCluster cluster);
  /// One more reference to each. They must lie in covered space and be below geometry.refcount_max().
  core::Awaitable<void> raise(HostClusters clusters);
  /// One reference less to each. Calls freed(cluster) at the very moment when nobody refers to one any more: from then
  /// on anybody may take it.
  core::Awaitable<void> drop(HostClusters clusters, const std::function<void(HostCluster)>& freed);

  /// The first `count` clusters in a row, the first a multiple of `alignment`, from `from` on, that have no reference
  /// and overlap none of `reserved`. Nothing where the covered space has none.
  core::Awaitable<std::optional<HostCluster>> find_free(std::uint64_t count, std::uint64_t alignment, HostCluster from,
                                                        const std::vector<HostClusters>& reserved);
  /// How many of [from, to) have no reference, counted by whole `chunk`s, which `from` and `to` are multiples of. Those
  /// that no refcount block covers yet have none.
  core::Awaitable<std::uint64_t> count_free(HostCluster from, HostCluster to, std::uint64_t chunk);
  /// The first clusters in a row from `from` on, below `end`, that have no reference; count 0 where there are none.
  core::Awaitable<HostClusters> next_free_run(HostCluster from, HostCluster end);
  /// The first cluster from `from` on that a refcount block covers, or covered_end(): those before it have no
  /// reference.
  HostCluster next_covered(HostCluster from) const;
  /// Behind the last cluster below `end` that has a reference.
  core::Awaitable<HostCluster> end_of_use(HostCluster end);
  /// What the next grow() takes for itself.
  HostClusters next_growth() const;
  /// Clusters below this have a refcount block.
  HostCluster covered_end() const { return {covered_blocks_ * geometry_.refcounts_per_block()}; }
  /// Adds refcount blocks, and a larger refcount table where needed, behind the covered space. Each is durable before
  /// anything names it (one barrier).
  core::Awaitable<void> grow();

  /// Where the refcount blocks are; 0 for none.
  std::vector<HostOffset> blocks() const;
  /// Puts a block elsewhere, to a cluster that was taken for it. Its old place is given up with the next batch.
  core::Awaitable<void> move_block(std::uint64_t block, HostOffset to);

  bool dirty() const { return slices_.dirty_slices() != 0; }
  /// Writes every change made before the call.
  core::Awaitable<void> write_dirty();

  /// References that growing gave up (an outgrown table): to be dropped once the next batch is durable.
  std::vector<HostClusters> take_superseded() { return std::exchange(superseded_, {}); }

 private:
  struct Position {
    HostOffset slice;
    std::uint64_t index = 0;  ///< of the refcount within the slice
  };
  struct Growth {
    std::uint64_t blocks = 1;
    std::uint64_t table_clusters = 0;  ///< of a new table; 0 where the present one has room
  };

  std::optional<Position> position(HostCluster cluster) const;
  HostCluster end_of_block(HostCluster cluster) const;
  core::Awaitable<SliceCache::Slice*> resident(HostCluster cluster, Position& where);
  Growth plan_growth() const;
  core::Buffer new_blocks(const Growth& growth) const;
  core::Awaitable<core::Buffer> pin_block(HostOffset at);
  void rename_block(HostOffset from, HostOffset to);
  core::Awaitable<void> link(std::uint64_t first_block, const Growth& growth, HostOffset blocks_at);

  core::Engine& engine_;
  core::BlockFile& file_;
  HeaderSector& header_;
  Geometry geometry_;
  SliceCache slices_;
  HostOffset table_at_;
  std::vector<std::uint64_t> table_;  ///< offsets of the refcount blocks, 0 for none; the whole table
  std::uint64_t covered_blocks_ = 0;  ///< 1 + the last block present
  std::vector<HostClusters> superseded_;
  core::AsyncMutex writing_;  ///< the same slice must not be on its way to the file twice
};

}  // namespace qcow2
