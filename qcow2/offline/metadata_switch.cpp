#include "qcow2/offline/metadata_switch.h"

#include <algorithm>
#include <limits>

#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/offline/bitmap_directory.h"
#include "qcow2/offline/reference_walk.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;

constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

std::uint64_t load_word(core::Bytes bytes, std::size_t at) { return core::load_big_endian<std::uint64_t>(bytes, at); }

/// Clusters that neither the image as it is nor the image as it shall be has any use for.
class FreeSpace {
 public:
  FreeSpace(const ReferenceCounts& before, const ReferenceCounts& after) : before_(before), after_(after) {}

  /// `count` in a row; beyond the end of the file where it has no such gap.
  HostCluster take(std::uint64_t count) {
    HostCluster first = next_;
    for (std::uint64_t free = 0; free < count;) {
      const HostCluster candidate = first + free;
      const bool used = before_.get(candidate) != 0 || after_.get(candidate) != 0;
      if (used) first = candidate + 1;
      free = used ? 0 : free + 1;
    }
    next_ = first + count;
    return first;
  }

 private:
  const ReferenceCounts& before_;
  const ReferenceCounts& after_;
  HostCluster next_{1};
};

class Switch {
 public:
  Switch(const ReadOnlyFile& file, ImageWriter& writer, const ImageLayout& layout, const MetadataTarget& target)
      : file_(file),
        writer_(writer),
        layout_(layout),
        geometry_(layout.geometry()),
        target_(target),
        before_(geometry_.host_clusters(file.size()), no_limit),
        after_(geometry_.host_clusters(file.size()), no_limit),
        space_(before_, after_) {}

  void run() {
    count_before();
    count_content_after();
    write_changed_tables();
    count_l2_tables(active_l1_);
    write_l1_tables();
    write_snapshot_table();
    write_refcounts();
    writer_.sync();  // ---- all that the header shall name is durable; below this line it may name it
    write_header();
    writer_.sync();  // ---- what only the old header named may go
    give_back();
  }

 private:
  // ---- what there is

  void count_before() {
    Findings findings;
    StoredRefcounts stored(file_, layout_.header);
    HostReferences references(geometry_, file_.size(), before_, findings);
    TableWalk tables(file_, layout_, stored, references, findings);
    const SnapshotTable snapshots = read_snapshot_table(file_, layout_.header);
    count_content(file_, layout_, snapshots, tables, references, findings);
    count_refcount_structure(layout_, stored, references, findings);
    compare_refcounts(layout_, stored, before_, findings);
    if (target_.mends || (findings.corruptions() == 0 && findings.check_errors() == 0)) return;
    fail(Errc::corrupt_image, file_.path() + ": the image is damaged; see qcowfs check");
  }

  // ---- what there shall be, but for the tables of the disk

  void require_in_file(HostExtent extent) const {
    if (is_within_file(extent, file_.size(), geometry_)) return;
    fail(Errc::corrupt_image,
         file_.path() + ": something in it leads behind the end of the file, which no repair can bring back");
  }

  // Of what the image has already, nothing can lie behind the end of the file.
  void refer_present(HostExtent extent) {
    require_in_file(extent);
    refer(extent);
  }

  void refer(HostCluster cluster) {
    after_.add(cluster);
    if (after_.get(cluster) > geometry_.refcount_max()) {
      fail(Errc::bad_argument, file_.path() + ": refcounts of " + std::to_string(geometry_.refcount_bits()) +
                                   " bits have no room for another reference");
    }
  }
  void refer(HostExtent extent) {
    if (extent.length == 0) return;
    const HostClusters touched = geometry_.clusters_touched(extent);
    for (std::uint64_t i = 0; i < touched.count; ++i) refer(touched.first + i);
  }

  void count_content_after() {
    refer(HostCluster{0});
    count_data(target_.active_l1);
    for (const std::vector<std::uint64_t>& l1 : snapshot_l1s()) {
      count_data(l1);
      count_l2_tables(l1);
    }
    const std::size_t in_place = target_.snapshots.size() - (target_.new_l1.empty() ? 0 : 1);
    for (std::size_t i = 0; i < in_place; ++i) {
      refer_present({target_.snapshots[i].l1_table, std::uint64_t{target_.snapshots[i].l1_entries} * 8});
    }
    if (!layout_.bitmaps || !target_.keeps_content) return;
    refer_present(layout_.bitmaps->extent);
    BitmapReader(file_, layout_).for_each([&](const StoredBitmap& bitmap) {
      refer_present(bitmap.table);
      for (const HostOffset at : bitmap.clusters) refer_present({at, geometry_.cluster_size()});
    });
  }

  const std::vector<std::vector<std::uint64_t>>& snapshot_l1s() {
    if (snapshot_l1s_.size() == target_.snapshots.size()) return snapshot_l1s_;
    for (const Snapshot& snapshot : target_.snapshots) {
      const bool is_new = !target_.new_l1.empty() && &snapshot == &target_.snapshots.back();
      snapshot_l1s_.push_back(is_new ? target_.new_l1
                                     : read_l1(file_, geometry_, snapshot.l1_table, snapshot.l1_entries));
    }
    return snapshot_l1s_;
  }

  void count_data(const std::vector<std::uint64_t>& l1) {
    for (const std::uint64_t table : l1) {
      if (table == 0) continue;
      require_in_file({HostOffset{table}, geometry_.cluster_size()});
      const std::vector<std::byte> bytes = file_.read_or_zeros(HostOffset{table}, geometry_.cluster_size());
      for (std::size_t i = 0; i < geometry_.l2_entries(); ++i) {
        refer_present(referenced(load_l2_entry(bytes, i, geometry_)));
      }
    }
  }

  // Those are in the file: they were read.
  void count_l2_tables(const std::vector<std::uint64_t>& l1) {
    for (const std::uint64_t table : l1) {
      if (table != 0) refer(geometry_.cluster_of(HostOffset{table}));
    }
  }

  // ---- tables

  Placement decode(L2Entry entry) const {
    try {
      return decode_l2_entry(entry, geometry_, layout_.header.version);
    } catch (const core::Error& error) {
      fail(error.code(), file_.path() + ": " + core::describe(error) + ", which no repair can put right");
    }
  }

  bool is_compressed(L2Entry entry) const {
    return (entry.word & l2_entry_compressed) != 0 && !geometry_.external_data;
  }

  // What an entry leads to as a check counts it, also where a mount would not follow it.
  HostExtent referenced(L2Entry entry) const {
    if (is_compressed(entry)) return compressed_extent(entry.word, geometry_);
    const HostClusters clusters = clusters_referenced(decode(without_crooked_zeros(entry)), geometry_);
    return {geometry_.start_of(clusters.first), clusters.count << geometry_.cluster_bits};
  }

  // Zeros lose nothing with a cluster that is none.
  L2Entry without_crooked_zeros(L2Entry entry) const {
    if (geometry_.is_cluster_aligned(HostOffset{entry.word & entry_offset_mask})) return entry;
    const bool zeros = geometry_.extended_l2 ? (entry.subclusters & subclusters_allocated_mask) == 0
                                             : (entry.word & l2_entry_zero) != 0 && layout_.header.version >= 3;
    if (!zeros) return entry;
    return {geometry_.extended_l2 ? 0 : l2_entry_zero, entry.subclusters};
  }

  // As the new counts have it, without bits that mean nothing.
  L2Entry with_flags(L2Entry stored) const {
    if (is_compressed(stored)) return {stored.word & ~entry_copied, 0};
    const L2Entry entry = without_crooked_zeros(stored);
    const Placement placement = decode(entry);
    const std::uint64_t bare = entry.word & ~(entry_copied | standard_entry_reserved_mask);
    const HostClusters clusters = clusters_referenced(placement, geometry_);
    const bool copied = clusters.count == 0 ? (entry.word & entry_copied) != 0 : after_.get(clusters.first) == 1;
    return {copied ? bare | entry_copied : bare, entry.subclusters};
  }

  // True where that is not what the table says already.
  bool set_flags(core::MutableBytes table) const {
    bool changed = false;
    for (std::size_t i = 0; i < geometry_.l2_entries(); ++i) {
      const L2Entry entry = load_l2_entry(table, i, geometry_);
      const L2Entry wanted = with_flags(entry);
      if (wanted == entry) continue;
      store_l2_entry(table, i, wanted, geometry_);
      changed = true;
    }
    return changed;
  }

  void write_changed_tables() {
    active_l1_ = target_.active_l1;
    for (std::uint64_t& table : active_l1_) {
      if (table == 0) continue;
      std::vector<std::byte> bytes = file_.read_or_zeros(HostOffset{table}, geometry_.cluster_size());
      if (!set_flags(bytes)) continue;
      const HostCluster copy = space_.take(1);
      writer_.write(geometry_.start_of(copy), bytes);
      table = geometry_.start_of(copy).value;
    }
  }

  /// Writes it to free clusters of its own and counts them.
  HostOffset write_new(core::Bytes bytes) {
    const std::uint64_t clusters = geometry_.host_clusters(bytes.size());
    const HostCluster first = space_.take(clusters);
    std::vector<std::byte> padded(clusters << geometry_.cluster_bits);
    std::copy(bytes.begin(), bytes.end(), padded.begin());
    writer_.write(geometry_.start_of(first), padded);
    refer({geometry_.start_of(first), padded.size()});
    return geometry_.start_of(first);
  }

  void write_l1_tables() {
    std::vector<std::byte> active(std::max<std::size_t>(active_l1_.size(), 1) * 8);
    for (std::size_t i = 0; i < active_l1_.size(); ++i) {
      const std::uint64_t table = active_l1_[i];
      const bool sole = table != 0 && after_.get(geometry_.cluster_of(HostOffset{table})) == 1;
      core::store_big_endian(core::MutableBytes(active), i * 8, sole ? table | entry_copied : table);
    }
    active_l1_at_ = write_new(active);
    snapshots_ = target_.snapshots;
    if (target_.new_l1.empty()) return;
    std::vector<std::byte> taken(target_.new_l1.size() * 8);
    for (std::size_t i = 0; i < target_.new_l1.size(); ++i) {
      core::store_big_endian(core::MutableBytes(taken), i * 8, target_.new_l1[i]);
    }
    snapshots_.back().l1_table = write_new(taken);
  }

  void write_snapshot_table() {
    if (snapshots_.empty()) return;
    snapshot_table_at_ = write_new(encode_snapshot_table(snapshots_));
  }

  // ---- refcounts

  // Table and blocks, one behind the other; they count themselves. Where nothing is there is no block.
  void write_refcounts() {
    std::vector<std::uint64_t> blocks;
    HostCluster first;
    for (std::uint64_t reserved = 0, wanted = 1; reserved < wanted;) {
      reserved = wanted;
      FreeSpace trial = space_;
      first = trial.take(reserved);
      blocks = refcount_blocks_for(first, first + reserved);
      refcount_table_clusters_ = geometry_.host_clusters((blocks.back() + 1) * 8);
      wanted = refcount_table_clusters_ + blocks.size();
    }
    if (refcount_table_clusters_ << geometry_.cluster_bits > refcount_table_bytes_max) {
      fail(Errc::unsupported_feature, file_.path() + ": the refcount table would be too large");
    }
    refcount_table_at_ = geometry_.start_of(first);
    refer({refcount_table_at_, (refcount_table_clusters_ + blocks.size()) << geometry_.cluster_bits});
    const HostOffset first_block = refcount_table_at_ + (refcount_table_clusters_ << geometry_.cluster_bits);
    std::vector<std::byte> table(refcount_table_clusters_ << geometry_.cluster_bits);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const HostOffset at = first_block + (i << geometry_.cluster_bits);
      core::store_big_endian(core::MutableBytes(table), blocks[i] * 8, at.value);
      write_refcount_block(blocks[i], at);
    }
    writer_.write(refcount_table_at_, table);
  }

  // Those that count anything: what there shall be, and clusters [begin, end). In their order.
  std::vector<std::uint64_t> refcount_blocks_for(HostCluster begin, HostCluster end) const {
    const std::uint64_t per_block = geometry_.refcounts_per_block();
    const auto next_used = [&](HostCluster from) {
      const HostCluster counted = after_.next_candidate(from);
      const bool is_counted = counted.value < after_.clusters();
      if (from >= end) return is_counted ? std::optional(counted) : std::nullopt;
      return std::optional(is_counted ? std::min(counted, std::max(from, begin)) : std::max(from, begin));
    };
    std::vector<std::uint64_t> blocks;
    for (auto at = next_used({0}); at; at = next_used({(blocks.back() + 1) * per_block})) {
      blocks.push_back(at->value / per_block);
    }
    return blocks;
  }

  void write_refcount_block(std::uint64_t block, HostOffset at) {
    std::vector<std::byte> bytes(geometry_.cluster_size());
    const HostCluster first{block * geometry_.refcounts_per_block()};
    for (std::uint64_t i = 0; i < geometry_.refcounts_per_block(); ++i) {
      set_refcount(bytes, i, geometry_.refcount_order, after_.get(first + i));
    }
    writer_.write(at, bytes);
  }

  // ---- the switch

  void write_header() {
    std::vector<std::byte> sector = file_.read_or_zeros(HostOffset{0}, header_bytes_switched);
    const core::MutableBytes bytes(sector);
    core::store_big_endian(bytes, header_field::size, target_.disk_size);
    core::store_big_endian(bytes, header_field::l1_entries, static_cast<std::uint32_t>(active_l1_.size()));
    core::store_big_endian(bytes, header_field::l1_table_offset, active_l1_at_.value);
    core::store_big_endian(bytes, header_field::refcount_table_offset, refcount_table_at_.value);
    core::store_big_endian(bytes, header_field::refcount_table_clusters,
                           static_cast<std::uint32_t>(refcount_table_clusters_));
    core::store_big_endian(bytes, header_field::snapshots, static_cast<std::uint32_t>(snapshots_.size()));
    core::store_big_endian(bytes, header_field::snapshot_table_offset, snapshot_table_at_.value);
    if (layout_.header.version >= 3) {
      const std::uint64_t features = layout_.header.incompatible_features & ~incompatible::dirty;
      core::store_big_endian(bytes, header_field::incompatible_features, features);
      const std::uint64_t kept = autoclear::raw_external_data | (target_.keeps_content ? autoclear::bitmaps : 0);
      core::store_big_endian(bytes, header_field::autoclear_features, layout_.header.autoclear_features & kept);
    }
    writer_.write(HostOffset{0}, sector);
  }

  void give_back() {
    for (HostCluster at = before_.next_candidate({1}); at.value < before_.clusters(); at = before_.next_candidate(at)) {
      HostCluster end = at;
      while (end.value < before_.clusters() && before_.get(end) != 0 && after_.get(end) == 0) end = end + 1;
      if (end > at) writer_.punch({geometry_.start_of(at), (end - at) << geometry_.cluster_bits});
      at = end + 1;
    }
  }

  const ReadOnlyFile& file_;
  ImageWriter& writer_;
  const ImageLayout& layout_;
  Geometry geometry_;
  const MetadataTarget& target_;
  ReferenceCounts before_;
  ReferenceCounts after_;
  FreeSpace space_;
  std::vector<std::vector<std::uint64_t>> snapshot_l1s_;
  std::vector<std::uint64_t> active_l1_;
  HostOffset active_l1_at_;
  std::vector<Snapshot> snapshots_;
  HostOffset snapshot_table_at_;
  HostOffset refcount_table_at_;
  std::uint64_t refcount_table_clusters_ = 0;
};

}  // namespace

std::vector<std::uint64_t> read_l1(const ReadOnlyFile& file, const Geometry& geometry, HostOffset at,
                                   std::uint64_t entries) {
  if (!geometry.is_cluster_aligned(at) || at.value > host_offset_max || entries > l1_table_bytes_max / 8) {
    fail(Errc::corrupt_image, file.path() + ": an L1 table cannot be where the image says");
  }
  const std::vector<std::byte> bytes = file.read_or_zeros(at, entries * 8);
  std::vector<std::uint64_t> tables(entries);
  try {
    for (std::size_t i = 0; i < entries; ++i) tables[i] = decode_table_entry(load_word(bytes, i * 8), geometry);
  } catch (const core::Error& error) {
    fail(error.code(), file.path() + ": " + core::describe(error));
  }
  return tables;
}

MetadataTarget as_it_is(const ReadOnlyFile& file, const ImageLayout& layout) {
  MetadataTarget target;
  target.disk_size = layout.header.size;
  target.active_l1 = read_l1(file, layout.geometry(), layout.header.l1_table, layout.header.l1_entries);
  target.snapshots = read_snapshot_table(file, layout.header).snapshots;
  return target;
}

void switch_metadata(const ReadOnlyFile& file, ImageWriter& writer, const ImageLayout& layout,
                     const MetadataTarget& target) {
  const bool must_be_sound = !target.mends;  // so neither marked dirty nor corrupt
  refuse_unserved(layout.header, must_be_sound, file.path());
  Switch(file, writer, layout, target).run();
}

}  // namespace qcow2
