#include "qcow2/map/guest_map.h"

#include <algorithm>
#include <functional>
#include <set>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/check.h"

namespace qcow2 {
namespace {

void store_changes(const SliceChanges& changes, core::MutableBytes bytes, const Geometry& geometry) {
  for (std::size_t i = 0; i < bytes.size() / geometry.l2_entry_size(); ++i) {
    if (changes.changed[i]) store_l2_entry(bytes, i, load_l2_entry(changes.entries, i, geometry), geometry);
  }
}

constexpr std::uint32_t version_with_zeros = 3;  // the lenient choice where the image's own is not known

// Nothing but this L1 entry refers to it, so it may be written. Else, with a snapshot's, it is copied first.
bool is_sole_table(std::uint64_t l1_entry) { return (l1_entry & entry_copied) != 0; }

// What a shared table names is shared too, whatever it says.
L2Entry as_shared(L2Entry entry) { return {entry.word & ~entry_copied, entry.subclusters}; }

void clear_copied(core::MutableBytes table, const Geometry& geometry) {
  for (std::size_t i = 0; i < geometry.l2_entries(); ++i) {
    store_l2_entry(table, i, as_shared(load_l2_entry(table, i, geometry)), geometry);
  }
}

// As QEMU, this program has each cluster of an external data file at its guest offset, and nobody else writes there.
void require_own_place(L2Entry entry, GuestCluster cluster, const Geometry& geometry) {
  const Placement placement = decode_l2_entry(entry, geometry, version_with_zeros);
  HostOffset at{0};
  if (const auto* standard = std::get_if<StandardCluster>(&placement)) at = standard->at;
  if (const auto* zero = std::get_if<ZeroCluster>(&placement)) at = zero->preallocated;
  if (const auto* mixed = std::get_if<MixedCluster>(&placement)) at = mixed->at;
  if (at.value == 0 || at == data_file_base + geometry.start_of(cluster).value) return;
  core::fail(core::Errc::corrupt_image, "a cluster of the external data file is not at its guest offset");
}

}  // namespace

GuestMap::GuestMap(core::Engine& engine, core::BlockFile& file, HeaderSector& header, ClusterAllocator& clusters,
                   const Geometry& geometry, std::uint64_t kept_bytes)
    : engine_(engine),
      file_(file),
      header_(header),
      clusters_(clusters),
      geometry_(geometry),
      slice_entries_(std::min(geometry.cluster_size(), limits::slice_bytes) / geometry.l2_entry_size()),
      slices_(file, slice_entries_ * geometry.l2_entry_size(), kept_bytes) {}

core::Awaitable<void> GuestMap::open(Tables tables) {
  l1_at_ = tables.l1_at;
  core::Buffer bytes(tables.l1_entries * 8);
  co_await file_.read_at(tables.l1_at, bytes.span());
  l1_.resize(tables.l1_entries);
  for (std::size_t i = 0; i < l1_.size(); ++i) {
    l1_[i] = core::load_big_endian<std::uint64_t>(bytes.span(), i * 8);
    if (decode_table_entry(l1_[i], geometry_) == 0) l1_[i] = 0;
  }
  count_absent();
}

void GuestMap::count_absent() {
  absent_ = static_cast<std::uint64_t>(std::count_if(l1_.begin(), l1_.end(), std::not_fn(is_sole_table)));
  for (const MapChanges* layer : {&open_, &staged_, &naming_}) {
    for (const auto& [index, entry] : layer->l1) absent_ += entry == 0;
  }
}

std::uint64_t GuestMap::tables_absent(std::uint64_t l1_entries) const {
  return absent_ + l1_entries - std::min<std::uint64_t>(l1_entries, l1_.size());
}

std::uint64_t GuestMap::l1_entry(std::uint64_t index, std::initializer_list<const MapChanges*> layers) const {
  for (const MapChanges* layer : layers) {
    if (const auto changed = layer->l1.find(index); changed != layer->l1.end()) return changed->second;
  }
  return index < l1_.size() ? l1_[index] : 0;
}

HostOffset GuestMap::published_table(std::uint64_t index) const {
  // A dropped table has nothing left. What a new one has beside the changes is in the one that it copies, if any.
  for (const MapChanges* layer : {&open_, &staged_, &naming_}) {
    const auto changed = layer->l1.find(index);
    if (changed != layer->l1.end() && changed->second == 0) return HostOffset{0};
  }
  return HostOffset{index < l1_.size() ? l1_[index] & entry_offset_mask : 0};
}

std::vector<HostOffset> GuestMap::published_tables() const {
  std::vector<HostOffset> tables;
  tables.reserve(l1_.size());
  for (const std::uint64_t entry : l1_) tables.push_back(HostOffset{entry & entry_offset_mask});
  return tables;
}

HostOffset GuestMap::slice_offset(std::uint64_t slice, HostOffset table) const {
  return table + slice * slice_entries_ % geometry_.l2_entries() * geometry_.l2_entry_size();
}

std::optional<L2Entry> GuestMap::find(GuestCluster cluster) {
  const std::uint64_t slice = slice_number(cluster);
  const std::size_t index = slice_index(cluster);
  for (const MapChanges* layer : {&open_, &staged_, &naming_}) {
    const auto changes = layer->slices.find(slice);
    if (changes != layer->slices.end() && changes->second->changed[index]) {
      return load_l2_entry(changes->second->entries, index, geometry_);
    }
  }
  const HostOffset table = published_table(geometry_.l1_index(cluster));
  if (table.value == 0) return l2_entry_unallocated;
  const SliceCache::Slice* resident = slices_.find(slice_offset(slice, table));
  if (resident == nullptr) return std::nullopt;
  const L2Entry entry = load_l2_entry(resident->bytes.span(), index, geometry_);
  if (geometry_.external_data) require_own_place(entry, cluster, geometry_);
  return is_sole_table(l1_[geometry_.l1_index(cluster)]) ? entry : as_shared(entry);
}

core::Awaitable<void> GuestMap::load(GuestCluster cluster) {
  const HostOffset table = published_table(geometry_.l1_index(cluster));
  if (table.value == 0) co_return;
  const HostOffset slice = slice_offset(slice_number(cluster), table);
  co_await slices_.load(slice);
}

core::Awaitable<L2Entry> GuestMap::entry_of(GuestCluster cluster) {
  std::optional<L2Entry> entry = find(cluster);
  while (!entry) {
    co_await load(cluster);
    entry = find(cluster);
  }
  co_return *entry;
}

bool GuestMap::surely_unallocated(GuestCluster cluster, GuestCluster& end) const {
  const std::uint64_t slice = slice_number(cluster);
  std::uint64_t index = geometry_.l1_index(cluster);
  if (published_table(index).value != 0) return false;
  std::uint64_t changed = ~0ull;  // the next slice with changes
  for (const MapChanges* layer : {&open_, &staged_, &naming_}) {
    const auto next = layer->slices.lower_bound(slice);
    if (next != layer->slices.end()) changed = std::min(changed, next->first);
  }
  if (changed == slice) return false;
  while (index < l1_.size() && published_table(index).value == 0) ++index;
  const std::uint64_t table_starts = index < l1_.size() ? index * geometry_.l2_entries() : ~0ull;
  const std::uint64_t change_starts = changed == ~0ull ? changed : changed * slice_entries_;
  end = GuestCluster{std::min(table_starts, change_starts)};
  return true;
}

void GuestMap::set(GuestCluster cluster, L2Entry entry) {
  const std::optional<L2Entry> old_entry = find(cluster);
  CHECK(old_entry.has_value());
  // Entries that decode to nonsense were refused when they were read.
  lose(decode_l2_entry(*old_entry, geometry_, version_with_zeros));
  auto& changes = open_.slices[slice_number(cluster)];
  if (!changes) changes = std::make_unique<SliceChanges>();
  changes->changed.set(slice_index(cluster));
  store_l2_entry(changes->entries, slice_index(cluster), entry, geometry_);
  const std::uint64_t index = geometry_.l1_index(cluster);
  const bool needs_table = !is_sole_table(l1_entry(index, {&open_, &staged_, &naming_}));
  if (needs_table) open_.tables_wanted.insert(index);
  if (needs_table || (entry != l2_entry_unallocated && entry != encode_zero_entry(geometry_)))
    open_.names_new_space = true;
}

void GuestMap::lose(HostClusters clusters) {
  if (clusters.count == 0) return;
  open_.lost.clusters.push_back(clusters);
  open_.lost.bytes += clusters.count << geometry_.cluster_bits;
}

void GuestMap::lose(const Placement& placement) {
  const auto* compressed = std::get_if<CompressedCluster>(&placement);
  if (compressed == nullptr) return lose(clusters_referenced(placement, geometry_));
  open_.lost.clusters.push_back(clusters_referenced(placement, geometry_));
  open_.lost.fragments.push_back(compressed->extent);
  open_.lost.bytes += compressed->extent.length;
}

void GuestMap::set_disk_size(std::uint64_t size) {
  open_.disk_size = size;
  if (geometry_.l1_entries(size) > l1_.size()) open_.names_new_space = true;  // a larger L1 table
}

void GuestMap::move_table(std::uint64_t l1_index) {
  if (!is_sole_table(l1_entry(l1_index, {&open_, &staged_, &naming_}))) return;
  open_.tables_moved.insert(l1_index);
  open_.names_new_space = true;
}

void GuestMap::move_l1() {
  open_.l1_moves = true;
  open_.names_new_space = true;
}

void GuestMap::drop_tables(std::uint64_t first) {
  std::uint64_t end = l1_.size();
  for (const MapChanges* layer : {&staged_, &naming_}) {
    if (!layer->l1.empty()) end = std::max<std::uint64_t>(end, layer->l1.rbegin()->first + 1);
  }
  for (std::uint64_t index = first; index < end; ++index) {
    const std::uint64_t table = l1_entry(index, {&open_, &staged_, &naming_}) & entry_offset_mask;
    if (table == 0) continue;
    open_.l1[index] = 0;
    lose({geometry_.cluster_of(HostOffset{table}), 1});
  }
  count_absent();
}

void GuestMap::freeze() {
  CHECK(staged_.empty());
  staged_ = std::exchange(open_, MapChanges{});
}

void GuestMap::begin_naming() {
  CHECK(naming_.empty());
  naming_ = std::exchange(staged_, MapChanges{});
}

void GuestMap::store_layer(const MapChanges& layer, std::uint64_t l1_index, core::MutableBytes table) const {
  const std::uint64_t slices = geometry_.l2_entries() / slice_entries_;
  for (std::uint64_t i = 0; i < slices; ++i) {
    const std::uint64_t slice = l1_index * slices + i;
    if (const auto changed = layer.slices.find(slice); changed != layer.slices.end()) {
      store_changes(*changed->second, table.subspan(i * slices_.slice_size(), slices_.slice_size()), geometry_);
    }
  }
}

bool GuestMap::staged_fills_table(std::uint64_t l1_index) const {
  const std::uint64_t slices = geometry_.l2_entries() / slice_entries_;
  const auto end = staged_.slices.lower_bound((l1_index + 1) * slices);
  for (auto changed = staged_.slices.lower_bound(l1_index * slices); changed != end; ++changed) {
    const auto& entries = changed->second->entries;
    if (std::any_of(entries.begin(), entries.end(), [](std::byte byte) { return byte != std::byte{0}; })) return true;
  }
  return false;
}

core::Awaitable<void> GuestMap::write_new_tables() {
  // What the batch before this one does to the L1 table is part of a larger one: by the time that is named, it is
  // durable.
  const std::uint64_t l1_entries = naming_.moved_l1 ? naming_.moved_l1->entries : l1_.size();
  std::uint64_t l1_end = l1_entries;
  std::vector<PendingWrite> writes;
  const std::set<std::uint64_t> moved = std::exchange(staged_.tables_moved, {});
  std::set<std::uint64_t> indices = std::exchange(staged_.tables_wanted, {});
  indices.insert(moved.begin(), moved.end());
  for (const std::uint64_t index : indices) {
    const std::uint64_t latest = l1_entry(index, {&staged_, &naming_});
    const HostOffset shared{latest & entry_offset_mask};
    const bool moves = moved.contains(index) && shared.value != 0;
    if ((is_sole_table(latest) && !moves) || (shared.value == 0 && !staged_fills_table(index))) continue;
    core::Buffer content = core::Buffer::zeroed(geometry_.cluster_size());
    if (shared.value != 0) {
      co_await file_.read_at(shared, content.span());
      if (!is_sole_table(latest)) clear_copied(content.span(), geometry_);
      // What the batch before this one changes in a table of its own is on its way there: it may have been read or not.
      if (is_sole_table(latest)) store_layer(naming_, index, content.span());
    }
    const HostOffset table = co_await clusters_.allocate(1);
    slices_.forget(table, geometry_.cluster_size());
    if (shared.value != 0) staged_.lost.clusters.push_back({geometry_.cluster_of(shared), 1});
    staged_.l1[index] = encode_l1_entry(table);
    l1_end = std::max(l1_end, index + 1);
    store_layer(staged_, index, content.span());
    writes.emplace_back(table, std::move(content));
  }
  if (staged_.disk_size) l1_end = std::max(l1_end, geometry_.l1_entries(*staged_.disk_size));
  if (l1_end > l1_entries || staged_.l1_moves) {
    const std::uint64_t table_clusters = core::divide_up(l1_end * 8, geometry_.cluster_size());
    const HostOffset at = co_await clusters_.allocate(table_clusters);
    staged_.moved_l1 = MovedL1{at, l1_end};
    writes.emplace_back(at, l1_bytes(0, table_clusters * geometry_.cluster_size() / 8, {&staged_, &naming_}));
  }
  co_await write_all(engine_, file_, std::move(writes));
}

core::Buffer GuestMap::l1_bytes(std::uint64_t first_entry, std::uint64_t entries,
                                std::initializer_list<const MapChanges*> layers) const {
  core::Buffer bytes = core::Buffer::zeroed(entries * 8);
  for (std::uint64_t i = 0; i < entries; ++i) {
    core::store_big_endian(bytes.span(), i * 8, l1_entry(first_entry + i, layers));
  }
  return bytes;
}

bool GuestMap::naming_changes_published_table(std::uint64_t slice) const {
  const std::uint64_t index = l1_index_of_slice(slice);
  if (naming_.l1.contains(index)) return false;  // a new table, written whole before, or a dropped one
  return index < l1_.size() && l1_[index] != 0;  // no table: the batch took back all that it had put there
}

void GuestMap::collect_l1_sectors(std::vector<PendingWrite>& writes) const {
  constexpr std::uint64_t per_sector = sector_size / 8;
  std::set<std::uint64_t> sectors;
  for (const auto& [index, entry] : naming_.l1) sectors.insert(index / per_sector);
  for (const std::uint64_t sector : sectors) {
    writes.emplace_back(l1_at_ + sector * sector_size, l1_bytes(sector * per_sector, per_sector, {&naming_}));
  }
}

core::Awaitable<void> GuestMap::write_names() {
  std::vector<PendingWrite> writes;
  for (const auto& [slice, changes] : naming_.slices) {
    if (!naming_changes_published_table(slice)) continue;
    const HostOffset at = slice_offset(slice, HostOffset{l1_[l1_index_of_slice(slice)] & entry_offset_mask});
    SliceCache::Slice* resident = slices_.find(at);
    while (resident == nullptr) {
      co_await slices_.load(at);
      resident = slices_.find(at);
    }
    ++resident->pins;
    pinned_.push_back(at);
    core::Buffer bytes(slices_.slice_size());
    std::copy_n(resident->bytes.data(), bytes.size(), bytes.data());
    store_changes(*changes, bytes.span(), geometry_);
    writes.emplace_back(at, std::move(bytes));
  }
  if (!naming_.moved_l1) collect_l1_sectors(writes);
  co_await write_all(engine_, file_, std::move(writes));

  if (!naming_.moved_l1 && !naming_.disk_size) co_return;
  auto change = [this](core::MutableBytes sector) {
    if (naming_.disk_size) core::store_big_endian(sector, header_field::size, *naming_.disk_size);
    if (!naming_.moved_l1) return;
    core::store_big_endian(sector, header_field::l1_entries, static_cast<std::uint32_t>(naming_.moved_l1->entries));
    core::store_big_endian(sector, header_field::l1_table_offset, naming_.moved_l1->at.value);
  };
  co_await header_.update(change);
}

Lost GuestMap::settle() {
  for (const HostOffset at : pinned_) {
    SliceCache::Slice* resident = slices_.find(at);
    CHECK(resident != nullptr);
    --resident->pins;
  }
  pinned_.clear();
  for (const auto& [slice, changes] : naming_.slices) {
    if (!naming_changes_published_table(slice)) continue;
    const HostOffset table{l1_[l1_index_of_slice(slice)] & entry_offset_mask};
    SliceCache::Slice* resident = slices_.find(slice_offset(slice, table));
    if (resident != nullptr) store_changes(*changes, resident->bytes.span(), geometry_);
  }
  Lost lost = std::move(naming_.lost);
  if (naming_.moved_l1) {
    lost.clusters.push_back({geometry_.cluster_of(l1_at_), core::divide_up(l1_.size() * 8, geometry_.cluster_size())});
    l1_at_ = naming_.moved_l1->at;
    l1_.resize(naming_.moved_l1->entries);
  }
  const bool l1_changed = naming_.moved_l1 || !naming_.l1.empty();
  for (const auto& [index, entry] : naming_.l1) l1_[index] = entry;
  naming_ = MapChanges{};
  if (l1_changed) count_absent();
  return lost;
}

}  // namespace qcow2
