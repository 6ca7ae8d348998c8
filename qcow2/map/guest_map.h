// Which guest cluster is where: the L1 table and the L2 tables behind it.
//
// Four layers, newest first. What changed since the last freeze() is open; the batch frozen last is staged while all
// that its names rely on becomes durable; the batch before it is naming while its names do; the rest is published: what
// the file says. Lookups see all four. What is written for a batch never contains anything of a later one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "core/engine.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/host/bulk_write.h"
#include "qcow2/host/cluster_allocator.h"
#include "qcow2/host/header_sector.h"
#include "qcow2/host/slice_cache.h"
#include "qcow2/map/map_changes.h"

namespace qcow2 {

/// Units      Entries are L2 entries as stored (see table_entries.h).
/// Errors     Throws the device's error, or corrupt_image for a table that lies where none can be.
/// Threads    The engine's strand.
class GuestMap {
 public:
  struct Tables {
    HostOffset l1_at;
    std::uint64_t l1_entries = 0;
    std::uint64_t disk_size = 0;  ///< bytes, as the header says
  };

  GuestMap(core::Engine& engine, core::BlockFile& file, HeaderSector& header, ClusterAllocator& clusters,
           const Geometry& geometry, std::uint64_t kept_bytes);
  core::Awaitable<void> open(Tables tables);

  /// The entry as of now, or nothing where its slice must be loaded first. Never suspends: what the caller does with
  /// the answer before its next suspension happens at the same instant.
  std::optional<L2Entry> find(GuestCluster cluster);
  core::Awaitable<void> load(GuestCluster cluster);
  /// find(), after load() where that is needed. Does not suspend once it has the answer.
  core::Awaitable<L2Entry> entry_of(GuestCluster cluster);
  /// True where no table and no change exists: all clusters up to `end` (possibly far beyond the disk) are unallocated.
  bool surely_unallocated(GuestCluster cluster, GuestCluster& end) const;

  /// Gives the cluster a new entry; the references of the old one are lost with this batch. find() must have answered.
  void set(GuestCluster cluster, L2Entry entry);
  /// References that were taken for this batch and are not needed after all, or were outgrown.
  void lose(HostClusters clusters);
  void lose(const Placement& placement);
  void set_disk_size(std::uint64_t size);
  /// That the L1 table has room for: a disk that needs more gets a larger table.
  std::uint64_t l1_entries() const { return l1_.size(); }
  /// Puts the L2 table of an L1 entry, or the L1 table, elsewhere with this batch: where free space is lowest.
  void move_table(std::uint64_t l1_index);
  void move_l1();
  HostOffset l1_at() const { return l1_at_; }
  /// Where the L2 tables are that the file has now, by L1 entry; 0 for none.
  std::vector<HostOffset> published_tables() const;
  /// Gives up the L2 tables from L1 entry `first` on. All their entries must be unallocated, and durably so.
  void drop_tables(std::uint64_t first);

  const MapChanges& open_changes() const { return open_; }
  /// L2 tables that must still be taken for what was set so far, at most.
  std::uint64_t tables_wanted() const { return open_.tables_wanted.size() + staged_.tables_wanted.size(); }

  /// Of the first `l1_entries` parts of the disk, those that have no L2 table of their own yet, at most.
  std::uint64_t tables_absent(std::uint64_t l1_entries) const;

  /// The commit's steps; see flow/commit.cpp for what must lie between them.
  void freeze();                             ///< open becomes staged
  core::Awaitable<void> write_new_tables();  ///< of the staged batch; takes space for them
  void begin_naming();                       ///< staged becomes naming
  core::Awaitable<void> write_names();       ///< of the naming batch
  Lost settle();                             ///< naming becomes published; returns what the batch gave up

 private:
  std::uint64_t slice_number(GuestCluster cluster) const { return cluster.value / slice_entries_; }
  std::size_t slice_index(GuestCluster cluster) const { return cluster.value % slice_entries_; }
  std::uint64_t l1_index_of_slice(std::uint64_t slice) const { return slice * slice_entries_ / geometry_.l2_entries(); }
  /// An L1 entry as `layers`, newest first, leave it.
  std::uint64_t l1_entry(std::uint64_t index, std::initializer_list<const MapChanges*> layers) const;
  void count_absent();
  HostOffset published_table(std::uint64_t index) const;  ///< that still holds entries; 0 for none
  bool staged_fills_table(std::uint64_t l1_index) const;
  bool naming_changes_published_table(std::uint64_t slice) const;
  HostOffset slice_offset(std::uint64_t slice, HostOffset table) const;
  void store_layer(const MapChanges& layer, std::uint64_t l1_index, core::MutableBytes table) const;
  core::Buffer l1_bytes(std::uint64_t first_entry, std::uint64_t entries,
                        std::initializer_list<const MapChanges*> layers) const;
  void collect_l1_sectors(std::vector<PendingWrite>& writes) const;

  core::Engine& engine_;
  core::BlockFile& file_;
  HeaderSector& header_;
  ClusterAllocator& clusters_;
  Geometry geometry_;
  std::uint64_t slice_entries_;
  SliceCache slices_;  ///< published content only
  HostOffset l1_at_;
  std::vector<std::uint64_t> l1_;  ///< published, as stored
  std::uint64_t absent_ = 0;  ///< of its entries, those that name no table of their own, now or when all is published
  MapChanges open_;
  MapChanges staged_;
  MapChanges naming_;
  std::vector<HostOffset> pinned_;  ///< slices that the naming batch changes
};

}  // namespace qcow2
