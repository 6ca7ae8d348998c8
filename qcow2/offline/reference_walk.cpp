#include "qcow2/offline/reference_walk.h"

#include <algorithm>

#include "qcow2/offline/bitmap_directory.h"

namespace qcow2 {
namespace {

void check_snapshot_entries(const ImageLayout& layout, const SnapshotTable& table, Findings& findings) {
  if (layout.external_data() && !table.snapshots.empty()) {
    findings.corruption([] { return "snapshots in an image with an external data file"; });
  }
  if (layout.header.version < 3) return;
  for (const Snapshot& snapshot : table.snapshots) {
    if (snapshot.extra_data.size() >= snapshot_extra_data_v3_min) continue;
    findings.corruption(
        [&] { return "snapshot " + in_quotes(snapshot.name) + ": its entry in the snapshot table is incomplete"; });
  }
}

/// How many refcounts are looked at in blocks that the refcount table names more than once: it might name one all over.
constexpr std::uint64_t repeated_refcounts_max = 1 << 24;

/// Of the L1 tables that are looked at.
class L1Budget {
 public:
  explicit L1Budget(const ReadOnlyFile& file) : left_(file.tables_bytes_max()), file_size_(file.size()) {}

  bool take(const Snapshot& snapshot) {
    const std::uint64_t at = std::min(snapshot.l1_table.value, file_size_);
    const std::uint64_t length = std::min(std::uint64_t{snapshot.l1_entries} * 8, file_size_ - at);
    if (length > left_) return false;
    left_ -= length;
    return true;
  }

 private:
  std::uint64_t left_;
  std::uint64_t file_size_;
};

/// How often a refcount table names each of its blocks.
class NamedBlocks {
 public:
  explicit NamedBlocks(const std::vector<std::uint64_t>& table) {
    for (const std::uint64_t word : table) {
      if (word != 0) offsets_.push_back(word & ~refcount_entry_reserved_mask);
    }
    std::ranges::sort(offsets_);
  }
  std::uint64_t times(HostOffset block) const {
    const auto [first, end] = std::equal_range(offsets_.begin(), offsets_.end(), block.value);
    return static_cast<std::uint64_t>(end - first);
  }

 private:
  std::vector<std::uint64_t> offsets_;
};

void count_bitmaps(const ReadOnlyFile& file, const ImageLayout& layout, HostReferences& references) {
  if (!layout.bitmaps) return;
  references.add(layout.bitmaps->extent, [] { return std::string("the bitmap directory"); });
  BitmapReader(file, layout).for_each([&](const StoredBitmap& bitmap) {
    references.add(bitmap.table, [] { return std::string("the table of a bitmap"); });
    for (const HostOffset at : bitmap.clusters) {
      references.add({at, layout.geometry().cluster_size()}, [] { return std::string("a cluster of a bitmap"); });
    }
  });
}

/// Holds one cluster's two counts against each other; remembers the last cluster that either knows of.
class Comparison {
 public:
  Comparison(const Geometry& geometry, Findings& findings) : geometry_(geometry), findings_(findings) {}

  void compare(HostCluster cluster, std::uint64_t stored, std::uint64_t counted) {
    if (stored != 0 || counted != 0) last_ = cluster;
    if (stored == counted) return;
    const auto sentence = [&] {
      return "host byte " + in_hex(geometry_.start_of(cluster).value) + ": " +
             (stored < counted ? "refcount " : "leaked cluster, refcount ") + std::to_string(stored) + ", but " +
             std::to_string(counted) + (counted == 1 ? " reference" : " references");
    };
    if (stored < counted) return findings_.corruption(sentence);
    findings_.leak(sentence);
  }

  /// Of clusters [first, end), which are of one block, those that are not 0 in both.
  void compare_block(StoredRefcounts& stored, const ReferenceCounts& counts, HostCluster first, HostCluster end) {
    HostCluster counted = counts.next_candidate(first, end);
    HostCluster kept = stored.next(first, end);
    while (std::min(counted, kept) < end) {
      const HostCluster at = std::min(counted, kept);
      compare(at, *stored.get(at), counts.get(at));
      if (counted == at) counted = counts.next_candidate(at + 1, end);
      if (kept == at) kept = stored.next(at + 1, end);
    }
  }

  HostOffset end() const { return geometry_.start_of(last_ + 1); }

 private:
  Geometry geometry_;
  Findings& findings_;
  HostCluster last_;
};

}  // namespace

void count_content(const ReadOnlyFile& file, const ImageLayout& layout, const SnapshotTable& snapshots,
                   TableWalk& tables, HostReferences& references, Findings& findings) {
  const auto count = [&](HostExtent extent, const char* name) {
    references.add(extent, [name] { return std::string(name); });
  };
  count({HostOffset{0}, layout.geometry().cluster_size()}, "the header");
  tables.walk_disk();
  check_snapshot_entries(layout, snapshots, findings);
  L1Budget budget(file);
  for (std::size_t i = 0; i < snapshots.snapshots.size(); ++i) {
    const bool affordable = budget.take(snapshots.snapshots[i]);
    if (affordable) {
      tables.walk_snapshot(snapshots.snapshots[i], i);
    } else {
      findings.corruption([] { return "the L1 tables of the snapshots overlap, again and again"; });
    }
  }
  tables.walk_shared();
  count({layout.header.snapshot_table, snapshots.length}, "the snapshot table");
  if (layout.luks_header) count(*layout.luks_header, "the encryption header");
  count_bitmaps(file, layout, references);
}

void count_refcount_structure(const ImageLayout& layout, const StoredRefcounts& stored, HostReferences& references,
                              Findings& findings) {
  const Geometry& geometry = layout.geometry();
  references.add({layout.header.refcount_table, stored.table().size() * 8},
                 [] { return std::string("the refcount table"); });
  for (std::size_t i = 0; i < stored.table().size(); ++i) {
    const std::uint64_t word = stored.table()[i];
    if (word == 0) continue;
    const auto corrupt = [&](const std::string& what) {
      findings.corruption([&] { return "refcount table entry " + std::to_string(i) + ": " + what; });
    };
    const HostOffset at{word & ~refcount_entry_reserved_mask};
    if ((word & refcount_entry_reserved_mask) != 0) {
      corrupt("has reserved bits set: " + in_hex(word));
    } else if (!geometry.is_cluster_aligned(at)) {
      corrupt("its block does not start at a cluster: " + in_hex(at.value));
    } else if (geometry.cluster_of(at).value >= references.counts().clusters()) {
      corrupt("its block lies outside the file, at " + in_hex(at.value));
    } else {
      references.add({at, geometry.cluster_size()}, [] { return std::string("a refcount block"); });
      const std::uint64_t count = references.counts().get(geometry.cluster_of(at));
      if (count != 1) corrupt("its block has " + std::to_string(count) + " references");
    }
  }
}

HostOffset compare_refcounts(const ImageLayout& layout, StoredRefcounts& stored, const ReferenceCounts& counts,
                             Findings& findings) {
  const Geometry& geometry = layout.geometry();
  Comparison comparison(geometry, findings);
  const NamedBlocks named(stored.table());
  std::uint64_t repeated = 0;
  const std::uint64_t per_block = geometry.refcounts_per_block();
  for (std::uint64_t first = 0; first < counts.clusters(); first += per_block) {
    const std::uint64_t end = std::min(first + per_block, counts.clusters());
    const std::optional<HostOffset> block = stored.block(first / per_block);
    const bool is_repeated = block && named.times(*block) > 1;
    if (is_repeated) repeated += per_block;
    if (!block) {
      const auto next = [&](HostCluster from) { return counts.next_candidate(from, {end}); };
      for (HostCluster at = next({first}); at.value < end; at = next(at + 1)) comparison.compare(at, 0, counts.get(at));
    } else if (!stored.is_readable(*block) || (is_repeated && repeated > repeated_refcounts_max)) {
      findings.unexaminable(end - first, [&] {
        return "host bytes " + in_hex(geometry.start_of(HostCluster{first}).value) + " to " +
               in_hex(geometry.start_of(HostCluster{end}).value) + ": their refcounts cannot be read";
      });
    } else {
      comparison.compare_block(stored, counts, {first}, {end});
    }
  }
  return comparison.end();
}

}  // namespace qcow2
