#include "qcow2/flow/cleaner.h"

#include <algorithm>

namespace qcow2 {
namespace {

constexpr std::uint64_t clusters_per_look = 1 << 16;
constexpr std::uint64_t live_bytes_max = 32 << 20;  // moved by a round
constexpr std::size_t group_max = 32;               // clusters moved between two looks at whether to stop
constexpr std::uint64_t clusters_gained_min = 2;
constexpr std::uint64_t dead_share = 16;  // of the file: less is not worth reading the map for

}  // namespace

bool Cleaner::due() const {
  const std::uint64_t dead = rooms_.block_use.dead_bytes();
  if (dead < std::max(dead_bytes_min_, rooms_.file.size() / dead_share)) return false;
  const bool looked_everywhere = fruitless_ >= rooms_.block_use.end().value;
  return !looked_everywhere || dead > dead_then_ + dead_then_ / dead_share;
}

// Those that are dead by half at least: each byte moved frees one at least.
Cleaner::Victims Cleaner::choose() {
  Victims victims;
  const std::uint64_t cluster_size = geometry_.cluster_size();
  const HostCluster end = rooms_.block_use.end();
  if (next_ >= end) next_ = HostCluster{0};
  for (std::uint64_t looked = 0; looked < clusters_per_look && next_ < end; ++looked) {
    const std::uint64_t dead = rooms_.block_use.dead_bytes(next_);
    ++fruitless_;
    if (dead >= cluster_size / 2) {
      victims.clusters.push_back(next_);
      victims.live_bytes += cluster_size - dead;
    }
    next_ = next_ + 1;
    if (victims.live_bytes >= live_bytes_max) break;
  }
  // The last cluster that is filled stays sparse: without a gain beyond it, it would be emptied again and again.
  const std::uint64_t filled = victims.live_bytes / cluster_size + 1;
  if (victims.clusters.size() < filled + clusters_gained_min) return {};
  fruitless_ = 0;
  return victims;
}

core::Awaitable<void> Cleaner::a_round(unsigned pause, std::function<bool()> cancelled) {
  const Victims victims = choose();
  if (fruitless_ >= rooms_.block_use.end().value) dead_then_ = rooms_.block_use.dead_bytes();
  if (victims.clusters.empty()) co_return;
  const auto is_victim = [&victims](HostCluster cluster) {
    return std::binary_search(victims.clusters.begin(), victims.clusters.end(), cluster);
  };
  const std::function<bool(HostCluster)> wanted = is_victim;
  std::vector<Resident> residents =
      co_await find_residents(rooms_.map, geometry_, version_, disk_size_, wanted, cancelled);
  std::erase_if(residents, [](const Resident& resident) { return !resident.compressed; });
  const FragmentAllocator::DensePacking densely(rooms_.fragments);
  for (std::size_t done = 0; done < residents.size() && !cancelled();) {
    const std::size_t end = std::min(residents.size(), done + group_max);
    std::vector<Resident> group(residents.begin() + static_cast<std::ptrdiff_t>(done),
                                residents.begin() + static_cast<std::ptrdiff_t>(end));
    const auto started = engine_.now();
    co_await rooms_.mover.move(std::move(group), disk_size_, nullptr);
    const auto taken = std::chrono::duration_cast<std::chrono::milliseconds>(engine_.now() - started);
    if (pause != 0) co_await engine_.sleep_for(taken * pause);
    done = end;
  }
  co_await rooms_.commit.publish();
}

}  // namespace qcow2
