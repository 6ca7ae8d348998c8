#include "qcow2/flow/giving_back.h"

#include <limits>

namespace qcow2 {
namespace {

constexpr std::uint64_t runs_per_round = 128;  // some milliseconds: who writes meanwhile waits for them

}  // namespace

bool GivingBack::due() const {
  if (!punches_ || !idle_()) return false;
  return rooms_.space.can_retreat() || rooms_.block_use.next_backed(HostCluster{0}).has_value();
}

core::Awaitable<void> GivingBack::a_round() {
  co_await rooms_.commit.finish();  // so that a kill leaves no leaks either
  co_await give_back(punches_ ? runs_per_round : 0);
}

core::Awaitable<void> GivingBack::everything() {
  if (punches_) {
    rooms_.space.look_everywhere();
    co_await give_back(std::numeric_limits<std::uint64_t>::max());
  }
  co_await rooms_.space.cut_tail(1);
}

core::Awaitable<void> GivingBack::give_back(std::uint64_t runs_max) {
  const core::AsyncMutex::Guard placing = co_await rooms_.placer.pause();
  const core::AsyncMutex::Guard taking = co_await rooms_.clusters.pause();
  co_await punch_dead_blocks(runs_max);
  const HostCluster lowest = rooms_.clusters.lowest_free();
  co_await rooms_.space.retreat(lowest, idle_, runs_max);
}

core::Awaitable<void> GivingBack::punch_dead_blocks(std::uint64_t runs_max) {
  HostCluster from{0};
  for (std::uint64_t runs = 0; runs < runs_max && idle_();) {
    const std::optional<HostCluster> cluster = rooms_.block_use.next_backed(from);
    if (!cluster) co_return;
    from = *cluster + 1;
    rooms_.space.has_holes(*cluster);
    for (const HostExtent& run : rooms_.block_use.dead_runs(*cluster)) {
      co_await rooms_.file.punch(run.at, run.length);
      ++runs;
    }
    rooms_.block_use.given_back(*cluster);
  }
}

}  // namespace qcow2
