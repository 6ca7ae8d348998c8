#include "qcow2/host/refcounts.h"

#include <algorithm>
#include <cerrno>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "core/check.h"
#include "core/error.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/host/bulk_write.h"
#include "qcow2/limits.h"

namespace qcow2 {
namespace {

// Blocks added at once grow with the image, so that their barrier becomes rare, within one write's size.
constexpr std::uint64_t growth_divisor = 4;

bool overlaps(HostCluster first, std::uint64_t count, const std::vector<HostClusters>& reserved) {
  return std::any_of(reserved.begin(), reserved.end(), [=](const HostClusters& range) {
    return first < range.first + range.count && range.first < first + count;
  });
}

}  // namespace

Refcounts::Refcounts(core::Engine& engine, core::BlockFile& file, HeaderSector& header, const Geometry& geometry,
                     std::uint64_t kept_bytes)
    : engine_(engine),
      file_(file),
      header_(header),
      geometry_(geometry),
      slices_(file, std::min(geometry.cluster_size(), limits::slice_bytes), kept_bytes) {}

core::Awaitable<void> Refcounts::open(HostOffset table, std::uint64_t table_clusters) {
  table_at_ = table;
  core::Buffer bytes(table_clusters * geometry_.cluster_size());
  co_await file_.read_at(table, bytes.span());
  table_.resize(bytes.size() / 8);
  for (std::size_t i = 0; i < table_.size(); ++i) {
    table_[i] = decode_table_entry(core::load_big_endian<std::uint64_t>(bytes.span(), i * 8), geometry_);
    if (table_[i] != 0) covered_blocks_ = i + 1;
  }
}

std::optional<Refcounts::Position> Refcounts::position(HostCluster cluster) const {
  const std::uint64_t block = cluster.value / geometry_.refcounts_per_block();
  if (block >= table_.size() || table_[block] == 0) return std::nullopt;
  const std::uint64_t index = cluster.value % geometry_.refcounts_per_block();
  const std::uint64_t per_slice = slices_.slice_size() * 8 >> geometry_.refcount_order;
  const HostOffset slice{table_[block] + index / per_slice * slices_.slice_size()};
  return Position{slice, index % per_slice};
}

HostCluster Refcounts::end_of_block(HostCluster cluster) const {
  return {core::align_down(cluster.value, geometry_.refcounts_per_block()) + geometry_.refcounts_per_block()};
}

core::Awaitable<SliceCache::Slice*> Refcounts::resident(HostCluster cluster, Position& where) {
  const std::optional<Position> found = position(cluster);
  if (!found) core::fail(core::Errc::corrupt_image, "a host cluster in use has no refcount block");
  where = *found;
  SliceCache::Slice* slice = slices_.find(where.slice);
  while (slice == nullptr) {
    co_await slices_.load(where.slice);
    slice = slices_.find(where.slice);
  }
  co_return slice;
}

core::Awaitable<std::uint64_t> Refcounts::count(HostCluster cluster) {
  if (!position(cluster)) co_return 0;
  Position where;
  const SliceCache::Slice* slice = co_await resident(cluster, where);
  co_return get_refcount(slice->bytes.span(), where.index, geometry_.refcount_order);
}

core::Awaitable<void> Refcounts::raise(HostClusters clusters) {
  for (std::uint64_t i = 0; i < clusters.count; ++i) {
    Position where;
    SliceCache::Slice* slice = co_await resident(clusters.first + i, where);
    const std::uint64_t count = get_refcount(slice->bytes.span(), where.index, geometry_.refcount_order);
    CHECK(count < geometry_.refcount_max());
    set_refcount(slice->bytes.span(), where.index, geometry_.refcount_order, count + 1);
    slices_.mark_dirty(*slice);
  }
}

core::Awaitable<void> Refcounts::drop(HostClusters clusters, const std::function<void(HostCluster)>& freed) {
  for (std::uint64_t i = 0; i < clusters.count; ++i) {
    Position where;
    SliceCache::Slice* slice = co_await resident(clusters.first + i, where);
    const std::uint64_t count = get_refcount(slice->bytes.span(), where.index, geometry_.refcount_order);
    if (count == 0) core::fail(core::Errc::corrupt_image, "a host cluster in use has the refcount 0");
    set_refcount(slice->bytes.span(), where.index, geometry_.refcount_order, count - 1);
    slices_.mark_dirty(*slice);
    if (count == 1) freed(clusters.first + i);
  }
}

core::Awaitable<std::optional<HostCluster>> Refcounts::find_free(std::uint64_t count, std::uint64_t alignment,
                                                                 HostCluster from,
                                                                 const std::vector<HostClusters>& reserved) {
  HostCluster first{core::align_up(from.value, alignment)};
  std::uint64_t free = 0;  // clusters from `first` on known to be free
  const HostCluster end = covered_end();
  while (first + count <= end) {
    if (free == count) {
      if (!overlaps(first, count, reserved)) co_return first;
      first = first + alignment;
      free = 0;
      continue;
    }
    const HostCluster candidate = first + free;
    if (!position(candidate)) {  // a gap in the table is left alone: blocks are added only at its end
      first = HostCluster{core::align_up(end_of_block(candidate).value, alignment)};
      free = 0;
      continue;
    }
    Position where;
    const SliceCache::Slice* slice = co_await resident(candidate, where);
    if (get_refcount(slice->bytes.span(), where.index, geometry_.refcount_order) == 0) {
      ++free;
    } else {
      first = HostCluster{core::align_up(candidate.value + 1, alignment)};
      free = 0;
    }
  }
  co_return std::nullopt;
}

core::Awaitable<std::uint64_t> Refcounts::count_free(HostCluster from, HostCluster to, std::uint64_t chunk) {
  const std::uint64_t per_slice = slices_.slice_size() * 8 >> geometry_.refcount_order;
  std::uint64_t free = to > covered_end() ? to - std::max(from, covered_end()) : 0;
  for (const HostCluster end = std::min(to, covered_end()); from < end;) {
    if (!position(from)) {  // a gap in the table is left alone
      from = std::min(end, end_of_block(from));
      continue;
    }
    const std::uint64_t in_slice = std::min(per_slice - from.value % per_slice, end - from);
    Position where;
    const SliceCache::Slice* slice = co_await resident(from, where);
    const auto in_use = [&](std::uint64_t i) {
      return get_refcount(slice->bytes.span(), where.index + i, geometry_.refcount_order) != 0;
    };
    for (std::uint64_t i = 0; i < in_slice; i += chunk) {
      std::uint64_t unused = 0;
      while (unused < chunk && !in_use(i + unused)) ++unused;
      if (unused == chunk) free += chunk;
    }
    from = from + in_slice;
  }
  co_return free;
}

HostCluster Refcounts::next_covered(HostCluster from) const {
  while (from < covered_end() && !position(from)) from = end_of_block(from);
  return std::min(from, covered_end());
}

core::Awaitable<HostClusters> Refcounts::next_free_run(HostCluster from, HostCluster end) {
  const std::uint64_t per_slice = slices_.slice_size() * 8 >> geometry_.refcount_order;
  HostClusters run{from, 0};
  end = std::min(end, covered_end());
  while (from < end) {
    if (!position(from)) {
      if (run.count != 0) co_return run;
      from = end_of_block(from);
      continue;
    }
    const std::uint64_t in_slice = std::min(per_slice - from.value % per_slice, end - from);
    Position where;
    const SliceCache::Slice* slice = co_await resident(from, where);
    for (std::uint64_t i = 0; i < in_slice; ++i) {
      const bool free = get_refcount(slice->bytes.span(), where.index + i, geometry_.refcount_order) == 0;
      if (free && run.count++ == 0) run.first = from + i;
      if (!free && run.count != 0) co_return run;
    }
    from = from + in_slice;
  }
  co_return run;
}

core::Awaitable<HostCluster> Refcounts::end_of_use(HostCluster end) {
  end = std::min(end, covered_end());
  while (end.value > 1) {  // the first is the header
    const HostCluster last{end.value - 1};
    if (!position(last)) {
      end = HostCluster{core::align_down(last.value, geometry_.refcounts_per_block())};
      continue;
    }
    Position where;
    const SliceCache::Slice* slice = co_await resident(last, where);
    std::uint64_t free = 0;
    while (free <= where.index &&
           get_refcount(slice->bytes.span(), where.index - free, geometry_.refcount_order) == 0) {
      ++free;
    }
    end = HostCluster{end.value - free};
    if (free <= where.index) break;
  }
  co_return std::max(end, HostCluster{1});
}

HostClusters Refcounts::next_growth() const {
  const Growth growth = plan_growth();
  return {covered_end(), growth.blocks + growth.table_clusters};
}

Refcounts::Growth Refcounts::plan_growth() const {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t blocks_max = std::max<std::uint64_t>(1, limits::write_bytes_max >> geometry_.cluster_bits);
  Growth growth;
  growth.blocks = std::clamp<std::uint64_t>(covered_blocks_ / growth_divisor, 1, blocks_max);
  for (;;) {
    const std::uint64_t entries = covered_blocks_ + growth.blocks;
    growth.table_clusters =
        entries <= table_.size() ? 0 : core::divide_up((entries + entries / 2) * 8, geometry_.cluster_size());
    // The new blocks must count themselves and the new table.
    if (growth.blocks * per_block > growth.blocks + growth.table_clusters) return growth;
    ++growth.blocks;
  }
}

core::Buffer Refcounts::new_blocks(const Growth& growth) const {
  core::Buffer blocks = core::Buffer::zeroed(growth.blocks * geometry_.cluster_size());
  for (std::uint64_t i = 0; i < growth.blocks + growth.table_clusters; ++i) {
    set_refcount(blocks.span(), i, geometry_.refcount_order, 1);  // blocks follow each other: one long array
  }
  return blocks;
}

core::Awaitable<void> Refcounts::grow() {
  const core::AsyncMutex::Guard alone = co_await writing_.lock();
  const Growth growth = plan_growth();
  const std::uint64_t first_block = covered_blocks_;
  const HostOffset blocks_at = geometry_.start_of(covered_end());
  if (blocks_at.value + growth.blocks * geometry_.refcounts_per_block() * geometry_.cluster_size() > host_offset_max ||
      growth.table_clusters * geometry_.cluster_size() > refcount_table_bytes_max) {
    core::fail_errno(ENOSPC, "the image file cannot grow beyond what its refcount table can count");
  }
  const core::Buffer blocks = new_blocks(growth);
  co_await file_.write_at(blocks_at, blocks.span());
  co_await link(first_block, growth, blocks_at);
}

core::Awaitable<void> Refcounts::link(std::uint64_t first_block, const Growth& growth, HostOffset blocks_at) {
  const std::uint64_t cluster_size = geometry_.cluster_size();
  const std::uint64_t old_clusters = table_.size() * 8 / cluster_size;
  const bool moves = growth.table_clusters != 0;
  if (moves) table_.resize(growth.table_clusters * cluster_size / 8);
  for (std::uint64_t i = 0; i < growth.blocks; ++i) {
    table_[first_block + i] = blocks_at.value + i * cluster_size;
  }

  // The table's bytes that change: all of a new one, else the sectors of the new entries.
  const std::uint64_t first_byte = moves ? 0 : core::align_down(first_block * 8, sector_size);
  const std::uint64_t last_byte =
      moves ? table_.size() * 8 : core::align_up((first_block + growth.blocks) * 8, sector_size);
  core::Buffer bytes(last_byte - first_byte);
  for (std::uint64_t at = 0; at < bytes.size(); at += 8) {
    core::store_big_endian(bytes.span(), at, table_[(first_byte + at) / 8]);
  }
  if (!moves) {
    co_await file_.barrier();  // ---- the blocks are durable; below this line a table may name them
    co_await file_.write_at(table_at_ + first_byte, bytes.span());
  } else {
    const HostOffset new_table = blocks_at + growth.blocks * cluster_size;
    co_await file_.write_at(new_table, bytes.span());
    co_await file_.barrier();  // ---- blocks and table are durable; below this line the header may name them
    const auto table_clusters = static_cast<std::uint32_t>(growth.table_clusters);
    auto change = [new_table, table_clusters](core::MutableBytes sector) {
      core::store_big_endian(sector, header_field::refcount_table_offset, new_table.value);
      core::store_big_endian(sector, header_field::refcount_table_clusters, table_clusters);
    };
    co_await header_.update(change);
    superseded_.push_back({geometry_.cluster_of(table_at_), old_clusters});
    table_at_ = new_table;
  }
  covered_blocks_ = first_block + growth.blocks;
}

std::vector<HostOffset> Refcounts::blocks() const {
  std::vector<HostOffset> blocks;
  for (std::uint64_t i = 0; i < covered_blocks_; ++i) blocks.push_back(HostOffset{table_[i]});
  return blocks;
}

core::Awaitable<void> Refcounts::move_block(std::uint64_t block, HostOffset to) {
  co_await write_dirty();  // among it the count of `to`: durable before the table names it
  const core::AsyncMutex::Guard alone = co_await writing_.lock();
  const HostOffset from{table_[block]};
  const core::Buffer content = co_await pin_block(from);
  co_await file_.write_at(to, content.span());
  co_await file_.barrier();  // ---- the copy is durable; below this line the table may name it
  table_[block] = to.value;
  rename_block(from, to);
  const std::uint64_t first_byte = core::align_down(block * 8, sector_size);
  core::Buffer sector(sector_size);
  for (std::uint64_t at = 0; at < sector_size; at += 8) {
    core::store_big_endian(sector.span(), at, table_[(first_byte + at) / 8]);
  }
  co_await file_.write_at(table_at_ + first_byte, sector.span());
  superseded_.push_back({geometry_.cluster_of(from), 1});
}

core::Awaitable<core::Buffer> Refcounts::pin_block(HostOffset at) {
  core::Buffer content(geometry_.cluster_size());
  for (std::uint64_t done = 0; done < content.size(); done += slices_.slice_size()) {
    SliceCache::Slice* slice = slices_.find(at + done);
    while (slice == nullptr) {
      co_await slices_.load(at + done);
      slice = slices_.find(at + done);
    }
    ++slice->pins;
  }
  for (std::uint64_t done = 0; done < content.size(); done += slices_.slice_size()) {
    std::copy_n(slices_.find(at + done)->bytes.data(), slices_.slice_size(), content.data() + done);
  }
  co_return content;
}

// What was counted since the copy was made is dirty, and stays so: nobody else writes blocks meanwhile.
void Refcounts::rename_block(HostOffset from, HostOffset to) {
  for (std::uint64_t done = 0; done < geometry_.cluster_size(); done += slices_.slice_size()) {
    slices_.rename(from + done, to + done);
    --slices_.find(to + done)->pins;
  }
}

core::Awaitable<void> Refcounts::write_dirty() {
  const core::AsyncMutex::Guard alone = co_await writing_.lock();
  std::vector<PendingWrite> writes = slices_.take_dirty();
  std::vector<HostOffset> slices;
  for (const auto& [at, bytes] : writes) slices.push_back(at);
  std::exception_ptr error;
  try {
    co_await write_all(engine_, file_, std::move(writes));
  } catch (...) {
    error = std::current_exception();
  }
  slices_.landed(slices);
  if (error) std::rethrow_exception(error);
}

}  // namespace qcow2
