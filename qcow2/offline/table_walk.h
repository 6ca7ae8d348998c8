// From an L1 table to every cluster that it leads to.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "qcow2/format/table_entries.h"
#include "qcow2/offline/host_references.h"
#include "qcow2/offline/image_layout.h"
#include "qcow2/offline/snapshot_table.h"
#include "qcow2/offline/stored_refcounts.h"
#include "qcow2/offline/zero_ranges.h"

namespace qcow2 {

/// How the disk's clusters are kept, snapshots not counted.
struct ClusterUse {
  std::uint64_t allocated = 0;
  std::uint64_t fragmented = 0;  ///< does not follow its predecessor in the file, or is compressed
  std::uint64_t compressed = 0;
};

/// A compressed cluster that an L2 entry names.
struct Fragment {
  GuestOffset guest;
  HostExtent extent;      ///< to the end of its last sector, and perhaps beyond the end of the file
  std::size_t owner = 0;  ///< 0: the disk; n + 1: snapshot n
};

/// Adds up the references of the tables, of the L2 tables and of the clusters, and finds entries that cannot be true.
/// What it takes an entry for is what QEMU takes it for: an entry that is damaged but still leads somewhere is
/// followed.
///
/// An L2 table is read when it is met first, and once more at the end for all the other times together: an image whose
/// L1 entries all name one table costs no more than the file is long.
/// Ownership  Borrows what it is given.
/// Errors     Throws what reading the file throws.
/// Threads    One at a time.
class TableWalk {
 public:
  TableWalk(const ReadOnlyFile& file, const ImageLayout& layout, StoredRefcounts& stored, HostReferences& references,
            Findings& findings);

  /// Receives the compressed clusters of every L2 table in turn, each table once.
  using FragmentSink = std::function<void(std::vector<Fragment> fragments)>;
  void send_fragments_to(FragmentSink sink) { sink_ = std::move(sink); }

  /// The disk itself. Here COPIED flags must agree with the stored refcounts.
  void walk_disk();
  /// `number` is its place in the snapshot table.
  void walk_snapshot(const Snapshot& snapshot, std::size_t number);
  /// After the disk and all snapshots: counts the L2 tables that were met more than once.
  void walk_shared();

  const ClusterUse& use() const { return use_; }  ///< of the disk

 private:
  struct Entry : L2Entry {
    GuestOffset guest;
  };

  /// How many more times a table was met, and by which entry for the first of them.
  struct Again {
    std::uint64_t l1_index = 0;
    std::uint64_t by_disk = 0;
    std::uint64_t by_snapshots = 0;
  };

  bool is_disk() const { return owner_ == 0; }
  std::string name_of(GuestOffset guest) const;
  std::string name_of_l1_entry(std::uint64_t index) const;

  void walk_l1(HostExtent table);
  void visit_l1_entry(std::uint64_t index, std::uint64_t word, std::size_t adjacent);
  bool meet(HostOffset table, std::uint64_t l1_index);
  void judge_copied(HostOffset table);
  core::Bytes read_table(HostOffset at, std::size_t adjacent);
  void walk_l2(core::Bytes table, std::uint64_t l1_index);
  void visit_entry(const Entry& entry);
  void visit_compressed(const Entry& entry);
  void visit_standard(const Entry& entry, HostOffset at);
  bool is_allocated(const Entry& entry) const;
  template <class Say>
  void corrupt(Say say) {
    findings_.corruption(say, times_);
  }
  void check_copied(const Entry& entry, HostOffset at);
  void count_use(HostOffset at);

  const ReadOnlyFile& file_;
  const ImageLayout& layout_;
  Geometry geometry_;
  StoredRefcounts& stored_;
  HostReferences& references_;
  Findings& findings_;
  FragmentSink sink_;

  std::size_t owner_ = 0;
  std::string owner_name_;     // as it stands behind a guest byte
  bool judge_copied_ = false;  // of the table under way: it is the disk's, and its own refcount can be read
  std::uint64_t times_ = 1;    // that the table under way was met
  ClusterUse use_;
  HostOffset next_contiguous_;  // 0: the first of its table

  HostOffset window_at_;  // L2 tables that lie side by side are read at once
  std::vector<std::byte> window_;
  std::vector<Fragment> fragments_;        // of the table under way
  std::unordered_set<std::uint64_t> met_;  // offsets of L2 tables
  std::map<std::uint64_t, Again> again_;   // by the same
  ZeroRanges zeros_;
};

}  // namespace qcow2
