#include "qcow2/flow/cleaner.h"

#include <algorithm>

#include "qcow2/limits.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t clusters_per_look = 1 << 16;
constexpr std::uint64_t live_max = 32 << 20;  // bytes moved by a round
constexpr std::size_t group_max = 32;         // clusters moved between two looks at whether to stop
constexpr std::uint64_t worth_it = 32;        // a part of what is used: less waste is not worth reading the map for

}  // namespace

bool Cleaner::due() const {
  const BlockUse::Touched touched = rooms_.block_use.touched();
  if (touched.waste() < std::max(waste_min_, touched.bytes / worth_it)) return false;
  const bool looked_everywhere = fruitless_ >= rooms_.block_use.end().value;
  return !looked_everywhere || touched.waste() > waste_then_ + waste_then_ / worth_it;
}

Cleaner::Victims Cleaner::choose() {
  Victims victims;
  const HostCluster end = rooms_.block_use.end();
  if (next_ >= end) next_ = HostCluster{0};
  for (std::uint64_t looked = 0; looked < clusters_per_look && next_ < end && victims.live < live_max; ++looked) {
    if (is_sparse(rooms_.block_use, next_)) {
      const BlockUse::Touched touched = rooms_.block_use.touched(next_);
      victims.clusters.push_back(next_);
      victims.live += touched.live;
      victims.waste += touched.waste();
    }
    ++fruitless_;
    next_ = next_ + 1;
  }
  // A round leaves a gap of its own where it ends: without a gain beyond that, it would be undone again and again.
  if (victims.waste < std::max(geometry_.cluster_size() / 4, 4 * limits::fresh_block_bytes)) return {};
  fruitless_ = 0;
  return victims;
}

core::Awaitable<void> Cleaner::a_round(unsigned pause, std::function<bool()> cancelled) {
  const Victims victims = choose();
  if (fruitless_ >= rooms_.block_use.end().value) waste_then_ = rooms_.block_use.touched().waste();
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
