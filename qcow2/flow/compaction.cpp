#include "qcow2/flow/compaction.h"

#include <algorithm>

#include "core/alignment.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t window_bytes = 1 << 30;  // of the file, whose residents are known at a time
constexpr std::uint64_t group_bytes = 1 << 20;   // moved at once
constexpr std::size_t group_residents_max = 256;
constexpr std::uint64_t batch_bytes_min = 1 << 20;  // moved before the space they had is wanted back
constexpr std::uint64_t batch_bytes_max = 64 << 20;
constexpr std::uint64_t waste_worth_it = 256;  // a part of what lives
constexpr std::uint64_t gap_worth_it = 32;     // a part of a chunk
constexpr int lowerings_max = 8;

}  // namespace

Compaction::Compaction(Rooms rooms, const Geometry& geometry, std::uint32_t version, std::uint64_t chunk,
                       const std::uint64_t& disk_size, const Codec* recompressor, const core::CompactOrder& order)
    : rooms_(rooms),
      geometry_(geometry),
      version_(version),
      chunk_(chunk),
      disk_size_(disk_size),
      recompressor_(recompressor),
      order_(order) {}

core::Awaitable<void> Compaction::run() {
  const FragmentAllocator::DensePacking densely(rooms_.fragments);
  co_await rooms_.commit.finish();
  co_await slide_together();
  co_await lower_the_end();
  do {
    co_await rooms_.giving_back.a_round();
  } while (rooms_.giving_back.due() && !order_.cancelled());
}

core::Awaitable<std::vector<Resident>> Compaction::in_window(HostCluster from, HostCluster to) {
  const auto wanted = [from, to](HostCluster cluster) { return cluster >= from && cluster < to; };
  const std::function<bool(HostCluster)> in_between = wanted;
  co_return co_await find_residents(rooms_.map, geometry_, version_, disk_size_, in_between, order_.cancelled);
}

// In the order of the file, each into what those before it have left: behind them lies one large free space. What is
// dense up to the first gap stays.
core::Awaitable<void> Compaction::slide_together() {
  const HostCluster end = co_await rooms_.refcounts.end_of_use(file_end());  // a block device goes on behind it
  const std::uint64_t window = std::max<std::uint64_t>(chunk_, window_bytes >> geometry_.cluster_bits);
  const HostClusters free = co_await rooms_.refcounts.next_free_run(HostCluster{0}, end);
  const HostCluster first_free = free.count == 0 ? end : free.first;
  bool sliding = false;
  for (HostCluster from{0}; from < end && !order_.cancelled(); from = rooms_.refcounts.next_covered(from + window)) {
    order_.progress(geometry_.start_of(from).value, geometry_.start_of(end).value);
    const HostCluster to = std::min(end, from + window);
    std::vector<Resident> residents = co_await in_window(from, to);
    std::erase_if(residents, [&](const Resident& resident) {
      return !resident.compressed || geometry_.cluster_of(resident.extent.at) < from;
    });
    const std::size_t stay = sliding || recompressor_ != nullptr ? 0 : first_worth_moving(residents, from, first_free);
    if (stay == residents.size()) continue;
    // The first go to the end and come back last: what is free lies scattered as yet, and has to become one.
    if (!sliding) co_await rooms_.placer.start_at(end);
    sliding = true;
    residents.erase(residents.begin(), residents.begin() + static_cast<std::ptrdiff_t>(stay));
    co_await move_all(std::move(residents), recompressor_);
    co_await settle();
  }
}

// The first behind a free chunk, in a chunk with a large gap, or with too much wasted before it, where the gaps of all
// chunks are worth it; else their number.
std::size_t Compaction::first_worth_moving(const std::vector<Resident>& residents, HostCluster from,
                                           HostCluster first_free) const {
  const std::uint64_t chunk_bytes = chunk_ << geometry_.cluster_bits;
  const std::uint64_t begin = core::align_down(geometry_.start_of(from).value, chunk_bytes);
  std::vector<std::uint64_t> lives;  // bytes of each chunk that somebody has
  std::uint64_t covered = begin;
  for (const Resident& resident : residents) {
    const std::uint64_t end = resident.extent.at.value + resident.extent.length;
    lives.resize(std::max<std::size_t>(lives.size(), core::divide_up(end - begin, chunk_bytes)));
    for (std::uint64_t at = std::max(covered, resident.extent.at.value); at < end;) {
      const std::uint64_t part = std::min(end, core::align_down(at, chunk_bytes) + chunk_bytes);
      lives[(at - begin) / chunk_bytes] += part - at;
      at = part;
    }
    covered = std::max(covered, end);
  }
  std::uint64_t live = 0;
  std::uint64_t waste = 0;
  const auto gap_of = [chunk_bytes](std::uint64_t bytes) { return bytes == 0 ? 0 : chunk_bytes - bytes; };
  for (const std::uint64_t bytes : lives) {
    live += bytes;
    waste += gap_of(bytes);
  }
  if (waste <= chunk_bytes || waste < live / waste_worth_it) return residents.size();
  std::size_t dense = 0;  // chunks that stay
  for (std::uint64_t wasted = 0; dense < lives.size(); ++dense) {
    const std::uint64_t gap = gap_of(lives[dense]);
    wasted += gap;
    if (gap > chunk_bytes / gap_worth_it || wasted > live / waste_worth_it) break;
  }
  const auto goes = [&](const Resident& resident) {
    if (geometry_.cluster_of(resident.extent.at) > first_free) return true;
    return (resident.extent.at.value - begin) / chunk_bytes >= dense;
  };
  return static_cast<std::size_t>(std::find_if(residents.begin(), residents.end(), goes) - residents.begin());
}

core::Awaitable<void> Compaction::move_all(std::vector<Resident> residents, const Codec* recompressor) {
  const std::uint64_t batch_bytes = std::clamp(rooms_.file.size() / 32, batch_bytes_min, batch_bytes_max);
  // Twice as much at first: then the next batch always finds more free space below it than it needs, and is not torn.
  std::uint64_t wanted = 2 * batch_bytes;
  for (std::size_t done = 0; done < residents.size() && !order_.cancelled();) {
    std::uint64_t bytes = 0;
    std::size_t end = done;
    while (end < residents.size() && end - done < group_residents_max && bytes < group_bytes) {
      bytes += residents[end++].extent.length;
    }
    const auto first = residents.begin() + static_cast<std::ptrdiff_t>(done);
    std::vector<Resident> group(first, residents.begin() + static_cast<std::ptrdiff_t>(end));
    order_.progress(group.front().extent.at.value, rooms_.file.size());
    co_await rooms_.mover.move(std::move(group), disk_size_, recompressor);
    done = end;
    moved_bytes_ += bytes;
    if (moved_bytes_ < wanted) continue;
    co_await settle();
    wanted = batch_bytes;
  }
}

core::Awaitable<void> Compaction::settle() {
  moved_bytes_ = 0;
  co_await rooms_.commit.publish();
  co_await rooms_.commit.wait_until_idle();
  co_await rooms_.placer.start_lowest();
}

core::Awaitable<void> Compaction::lower_the_end() {
  for (int round = 0; round < lowerings_max && !order_.cancelled(); ++round) {
    const bool goes_on = co_await lower_once();
    if (!goes_on) co_return;
  }
}

// All behind the place where the end would be if nothing before it were free. False where there is nothing to gain.
core::Awaitable<bool> Compaction::lower_once() {
  const HostCluster end = co_await rooms_.refcounts.end_of_use(file_end());
  const HostCluster whole_end{core::align_up(end.value, chunk_)};
  const std::uint64_t free = co_await rooms_.refcounts.count_free(HostCluster{0}, whole_end, chunk_);
  const HostCluster limit{whole_end.value - std::min(whole_end.value, free)};
  if (end <= limit + limit.value / waste_worth_it) co_return false;
  co_await move_tables(limit);
  std::vector<Resident> residents = co_await in_window(limit, end);
  co_await move_all(std::move(residents), nullptr);
  co_await settle();
  const HostCluster now = co_await rooms_.refcounts.end_of_use(file_end());
  co_return now < end;
}

core::Awaitable<void> Compaction::move_tables(HostCluster limit) {
  // Until they are durable where they shall be: a shrink gives up tables by where they are.
  const ChangeGate::Pass changing = co_await rooms_.gate.enter();
  const std::vector<HostOffset> tables = rooms_.map.published_tables();
  for (std::uint64_t index = 0; index < tables.size(); ++index) {
    if (geometry_.cluster_of(tables[index]) >= limit) rooms_.map.move_table(index);
  }
  if (!tables.empty() && geometry_.cluster_of(rooms_.map.l1_at()) >= limit) rooms_.map.move_l1();
  const std::vector<HostOffset> blocks = rooms_.refcounts.blocks();
  for (std::uint64_t block = 0; block < blocks.size(); ++block) {
    if (geometry_.cluster_of(blocks[block]) < limit) continue;
    const HostOffset to = co_await rooms_.clusters.allocate(1);
    co_await rooms_.refcounts.move_block(block, to);
  }
  co_await settle();
}

}  // namespace qcow2
