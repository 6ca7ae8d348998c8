#include "qcow2/host/space_reserve.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/patient_file.h"
#include "qcow2/limits.h"

namespace qcow2 {

core::Awaitable<void> SpaceReserve::ensure(std::uint64_t clusters) {
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  if (stale_ && !holds(clusters)) co_await count_anew();
  while (!holds(clusters)) co_await push_frontier(limits::reserve_bytes >> geometry_.cluster_bits);
}

void SpaceReserve::took(HostClusters clusters) {
  const std::uint64_t first = core::align_down(clusters.first.value, chunk_);
  const std::uint64_t end = core::align_up(clusters.first.value + clusters.count, chunk_);
  free_ -= std::min(free_, end - first);
  taken_ += end - first;
}

void SpaceReserve::freed(HostCluster cluster) {
  if (cluster >= frontier_) return;
  if (chunk_ == 1) {
    ++free_;
  } else {
    stale_ = true;
  }
}

core::Awaitable<void> SpaceReserve::back_up_to(HostCluster end) {
  if (end <= frontier_ || !promised_) co_return;
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  try {
    while (frontier_ < end && promised_) co_await push_frontier(limits::reserve_bytes >> geometry_.cluster_bits);
  } catch (const core::Error& error) {
    if (!core::means_no_space(error.code())) throw;
  }
}

core::Awaitable<bool> SpaceReserve::back(HostExtent extent) {
  bool backed = true;
  if (!promised_) co_return backed;
  try {
    co_await file_.reserve(extent.at, extent.length);
  } catch (const core::Error& error) {
    if (!core::means_no_space(error.code())) throw;
    backed = false;
  }
  co_return backed;
}

// By `clusters`, or by less where the host has not that much left.
core::Awaitable<void> SpaceReserve::push_frontier(std::uint64_t clusters) {
  for (std::uint64_t step = std::max(clusters, chunk_);; step /= 2) {
    const HostCluster to = frontier_ + step;
    const std::uint64_t added = co_await refcounts_.count_free(frontier_, to, chunk_);
    bool backed = true;
    if (added != 0) {
      try {
        promised_ = co_await file_.reserve(geometry_.start_of(frontier_), step << geometry_.cluster_bits);
      } catch (const core::Error& error) {
        if (step == chunk_ || !core::means_no_space(error.code())) throw;
        backed = false;
      }
    }
    if (!backed) continue;
    // Clusters may have been taken or freed while the host was asked; what was taken was counted by took().
    frontier_ = to;
    free_ += added;
    co_return;
  }
}

core::Awaitable<void> SpaceReserve::give_back(const BlockUse& block_use) {
  for (auto dead = block_use.next_run(HostOffset{0}); dead; dead = block_use.next_run(dead->at + dead->length)) {
    co_await file_.punch(dead->at, dead->length);
  }
  const HostCluster end{geometry_.host_clusters(file_.size())};
  HostClusters run = co_await refcounts_.next_free_run(HostCluster{0}, end);
  while (run.count != 0 && run.first + run.count < end) {
    co_await file_.punch(geometry_.start_of(run.first), run.count << geometry_.cluster_bits);
    run = co_await refcounts_.next_free_run(run.first + run.count, end);
  }
  const std::uint64_t used = run.count == 0 ? file_.size() : geometry_.start_of(run.first).value;
  co_await file_.truncate(used);
}

core::Awaitable<void> SpaceReserve::recount() {
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  co_await count_anew();
}

core::Awaitable<void> SpaceReserve::count_anew() {
  stale_ = false;
  const std::uint64_t taken_before = taken_;
  const std::uint64_t counted = co_await refcounts_.count_free(HostCluster{0}, frontier_, chunk_);
  const std::uint64_t taken_meanwhile = taken_ - taken_before;
  free_ = counted - std::min(counted, taken_meanwhile);
}

}  // namespace qcow2
