#include "qcow2/offline/table_walk.h"

#include <algorithm>
#include <utility>

#include "core/big_endian.h"
#include "qcow2/format/table_entries.h"

namespace qcow2 {
namespace {

constexpr std::size_t l1_read_bytes = 1 << 20;
constexpr std::size_t l2_read_bytes = 1 << 20;

std::uint64_t load_word(core::Bytes bytes, std::size_t offset) {
  return core::load_big_endian<std::uint64_t>(bytes, offset);
}

// How many tables, from the one that words[first] names, lie one behind the other in the file and in the L1 table.
std::size_t count_adjacent(const std::vector<std::uint64_t>& words, std::size_t first, std::uint64_t cluster_size) {
  const std::size_t count_max = std::max<std::uint64_t>(l2_read_bytes / cluster_size, 1);
  const std::uint64_t start = words[first] & entry_offset_mask;
  std::size_t count = 1;
  while (count < count_max && first + count < words.size() &&
         (words[first + count] & entry_offset_mask) == start + count * cluster_size) {
    ++count;
  }
  return count;
}

}  // namespace

TableWalk::TableWalk(const ReadOnlyFile& file, const ImageLayout& layout, StoredRefcounts& stored,
                     HostReferences& references, Findings& findings)
    : file_(file),
      layout_(layout),
      geometry_(layout.geometry()),
      stored_(stored),
      references_(references),
      findings_(findings),
      zeros_(file) {}

std::string TableWalk::name_of(GuestOffset guest) const { return "guest byte " + in_hex(guest.value) + owner_name_; }

std::string TableWalk::name_of_l1_entry(std::uint64_t index) const {
  return "L1 entry " + std::to_string(index) + owner_name_;
}

void TableWalk::walk_disk() {
  owner_ = 0;
  owner_name_.clear();
  walk_l1({layout_.header.l1_table, std::uint64_t{layout_.header.l1_entries} * 8});
}

void TableWalk::walk_snapshot(const Snapshot& snapshot, std::size_t number) {
  owner_ = number + 1;
  owner_name_ = " of snapshot " + in_quotes(snapshot.name);
  const auto corrupt = [&](const char* what) {
    findings_.corruption([&] { return "snapshot " + in_quotes(snapshot.name) + ": its L1 table " + what; });
  };
  if (!geometry_.is_cluster_aligned(snapshot.l1_table)) return corrupt("does not start at a cluster");
  if (snapshot.l1_entries > l1_table_bytes_max / 8) return corrupt("is too large");
  walk_l1({snapshot.l1_table, std::uint64_t{snapshot.l1_entries} * 8});
}

void TableWalk::walk_l1(HostExtent table) {
  references_.add(table, [this] { return "the L1 table" + owner_name_; });
  std::vector<std::uint64_t> words;
  for (std::uint64_t done = 0; done < table.length; done += words.size() * 8) {
    const std::size_t length = std::min<std::uint64_t>(l1_read_bytes, table.length - done);
    words.resize(length / 8);
    if (zeros_.have({table.at + done, length})) continue;
    const std::vector<std::byte> bytes = file_.read_or_zeros(table.at + done, length);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = load_word(bytes, i * 8);
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] == 0) continue;
      visit_l1_entry(done / 8 + i, words[i], count_adjacent(words, i, geometry_.cluster_size()));
    }
  }
}

void TableWalk::visit_l1_entry(std::uint64_t index, std::uint64_t word, std::size_t adjacent) {
  const HostOffset at{word & entry_offset_mask};
  if ((word & table_entry_reserved_mask) != 0) {
    findings_.corruption([&] { return name_of_l1_entry(index) + ": has reserved bits set: " + in_hex(word); });
  } else if (at.value == 0) {
    findings_.corruption([&] { return name_of_l1_entry(index) + ": has flags, but names no table"; });
  }
  // A table at offset 0 would be the header: nobody follows such an entry.
  if (at.value == 0) return;

  references_.add({at, geometry_.cluster_size()}, [&] { return name_of_l1_entry(index) + ": its L2 table"; });
  if (!geometry_.is_cluster_aligned(at)) {
    findings_.corruption(
        [&] { return name_of_l1_entry(index) + ": its L2 table does not start at a cluster: " + in_hex(at.value); });
  }
  const bool copied = (word & entry_copied) != 0;
  const std::optional<std::uint64_t> refcount = is_disk() ? stored_.get(geometry_.cluster_of(at)) : std::nullopt;
  if (refcount && copied != (*refcount == 1)) {
    findings_.corruption([&] {
      return name_of_l1_entry(index) + ": COPIED is " + (copied ? "set" : "not set") +
             ", but its table's refcount is " + std::to_string(*refcount);
    });
  }
  if (zeros_.have({at, geometry_.cluster_size()}) || !meet(at, index)) return;
  judge_copied(at);
  walk_l2(read_table(at, adjacent), index);
}

// False where it was met before.
bool TableWalk::meet(HostOffset table, std::uint64_t l1_index) {
  if (met_.insert(table.value).second) return true;
  Again& again = again_.try_emplace(table.value, Again{l1_index, 0, 0}).first->second;
  ++(is_disk() ? again.by_disk : again.by_snapshots);
  return false;
}

void TableWalk::judge_copied(HostOffset table) {
  judge_copied_ = is_disk() && stored_.get(geometry_.cluster_of(table)).has_value();
}

void TableWalk::walk_shared() {
  const FragmentSink sink = std::exchange(sink_, {});
  for (const auto& [at, again] : again_) {
    const HostOffset table{at};
    for (const bool disk : {true, false}) {
      times_ = disk ? again.by_disk : again.by_snapshots;
      if (times_ == 0) continue;
      owner_ = disk ? 0 : 1;  // whichever: nothing is sent
      owner_name_ = disk ? "" : " of a snapshot";
      judge_copied(table);
      walk_l2(read_table(table, 1), again.l1_index);
    }
  }
  times_ = 1;
  again_.clear();
  sink_ = sink;
}

core::Bytes TableWalk::read_table(HostOffset at, std::size_t adjacent) {
  const std::size_t cluster_size = geometry_.cluster_size();
  const bool there = at >= window_at_ && at.value - window_at_.value + cluster_size <= window_.size();
  if (!there) {
    window_.resize(adjacent * cluster_size);
    window_at_ = at;
    file_.read_or_zeros(at, window_);
  }
  return core::Bytes(window_).subspan(at - window_at_, cluster_size);
}

void TableWalk::walk_l2(core::Bytes table, std::uint64_t l1_index) {
  const std::uint64_t entries = geometry_.l2_entries();
  const std::uint64_t first = (l1_index * entries) << geometry_.cluster_bits;
  next_contiguous_ = {};
  fragments_.clear();
  for (std::uint64_t i = 0; i < entries; ++i) {
    const L2Entry entry = load_l2_entry(table, i, geometry_);
    if (entry != l2_entry_unallocated) visit_entry({entry, GuestOffset{first + (i << geometry_.cluster_bits)}});
  }
  if (sink_ && !fragments_.empty()) sink_(std::exchange(fragments_, {}));
}

void TableWalk::visit_entry(const Entry& entry) {
  if ((entry.word & l2_entry_compressed) != 0) return visit_compressed(entry);
  if ((entry.word & standard_entry_reserved_mask) != 0) {
    corrupt([&] { return name_of(entry.guest) + ": its entry has reserved bits set: " + in_hex(entry.word); });
  }
  if (is_allocated(entry)) return visit_standard(entry, HostOffset{entry.word & entry_offset_mask});
  if ((entry.subclusters & subclusters_allocated_mask) != 0) {
    corrupt([&] { return name_of(entry.guest) + ": has no cluster, but subclusters that are allocated in it"; });
  }
}

// In an external data file 0 is an offset like any other; COPIED, always set there, tells it from nothing at all.
bool TableWalk::is_allocated(const Entry& entry) const {
  if ((entry.word & entry_offset_mask) != 0) return true;
  const bool reads_as_zeros = !geometry_.extended_l2 && (entry.word & l2_entry_zero) != 0;
  return layout_.external_data() && !reads_as_zeros && (entry.word & entry_copied) != 0;
}

void TableWalk::visit_compressed(const Entry& entry) {
  const HostExtent extent = compressed_extent(entry.word, geometry_);
  const auto name = [&] { return name_of(entry.guest); };
  if ((entry.word & entry_copied) != 0) {
    corrupt([&] { return name() + ": COPIED is set for a compressed cluster"; });
  }
  if (layout_.external_data()) {
    return corrupt([&] { return name() + ": a compressed cluster in an image with an external data file"; });
  }
  if (entry.subclusters != 0) {
    return corrupt([&] { return name() + ": a compressed cluster with subclusters"; });
  }
  const bool inside = references_.add(
      extent, [&] { return name() + ": its compressed data"; }, times_);
  if (is_disk()) {
    use_.allocated += times_;
    use_.compressed += times_;
    use_.fragmented += times_;
  }
  // What starts behind the end of the file has been reported already: there is nothing to decode.
  if (sink_ && (inside || extent.at.value < file_.size())) fragments_.push_back({entry.guest, extent, owner_});
}

void TableWalk::visit_standard(const Entry& entry, HostOffset at) {
  const auto name = [&] { return name_of(entry.guest); };
  if ((entry.subclusters >> 32 & entry.subclusters) != 0) {
    corrupt([&] { return name() + ": a subcluster is both allocated and zero"; });
  }
  if (!geometry_.is_cluster_aligned(at)) {
    corrupt([&] { return name() + ": its data does not start at a cluster: " + in_hex(at.value); });
  }
  if (is_disk()) count_use(at);
  if (!layout_.external_data()) {
    references_.add(
        {at, geometry_.cluster_size()}, [&] { return name() + ": its data"; }, times_);
  }
  if (judge_copied_) check_copied(entry, at);
}

void TableWalk::check_copied(const Entry& entry, HostOffset at) {
  // Nothing counts the clusters of an external data file: each belongs to one entry.
  const std::optional<std::uint64_t> refcount =
      layout_.external_data() ? std::optional<std::uint64_t>(1) : stored_.get(geometry_.cluster_of(at));
  const bool copied = (entry.word & entry_copied) != 0;
  if (!refcount || copied == (*refcount == 1)) return;
  corrupt([&] {
    return name_of(entry.guest) + ": COPIED is " + (copied ? "set" : "not set") + ", but its refcount is " +
           std::to_string(*refcount);
  });
}

void TableWalk::count_use(HostOffset at) {
  use_.allocated += times_;
  if (next_contiguous_.value != 0 && at != next_contiguous_) use_.fragmented += times_;
  next_contiguous_ = at + geometry_.cluster_size();
}

}  // namespace qcow2
