#include "qcow2/host/cluster_allocator.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/check.h"

namespace qcow2 {

namespace {

bool contains(const HostClusters& clusters, HostCluster cluster) {
  return cluster >= clusters.first && cluster < clusters.first + clusters.count;
}

}  // namespace

core::Awaitable<HostCluster> ClusterAllocator::search(std::uint64_t count, std::uint64_t alignment, HostCluster from) {
  for (;;) {
    const std::optional<HostCluster> found = co_await refcounts_.find_free(count, alignment, from, reserved_);
    if (found) {
      const HostCluster end = *found + count;
      co_await space_.back_up_to(end);
      const HostClusters taken{*found, count};
      const bool backed = co_await space_.fill_holes(taken);
      if (!backed) {
        from = end;  // others are backed
        continue;
      }
      space_.took(taken);
      co_return *found;
    }
    co_await grow();
  }
}

core::Awaitable<void> ClusterAllocator::grow() {
  const HostClusters taken = refcounts_.next_growth();
  const HostCluster end = taken.first + taken.count;
  co_await space_.back_up_to(end);
  co_await refcounts_.grow();
  space_.took(taken);
}

core::Awaitable<HostOffset> ClusterAllocator::allocate(std::uint64_t count) {
  const core::AsyncMutex::Guard alone = co_await mutex_.lock();
  const HostCluster found = co_await search(count, 1, single_from_);
  if (count == 1) single_from_ = found + 1;
  const HostClusters taken{found, count};
  co_await refcounts_.raise(taken);
  co_return geometry_.start_of(found);
}

core::Awaitable<HostClusters> ClusterAllocator::reserve(std::uint64_t count) {
  const core::AsyncMutex::Guard alone = co_await mutex_.lock();
  const HostCluster found = co_await search(count, count, run_from_);
  run_from_ = found + count;
  const HostClusters taken{found, count};
  reserved_.push_back(taken);
  co_return taken;
}

core::Awaitable<bool> ClusterAllocator::reserve_at(HostClusters clusters) {
  const core::AsyncMutex::Guard alone = co_await mutex_.lock();
  const HostCluster end = clusters.first + clusters.count;
  while (refcounts_.covered_end() < end) co_await grow();
  for (std::uint64_t i = 0; i < clusters.count; ++i) {
    const HostCluster cluster = clusters.first + i;
    const std::uint64_t count = co_await refcounts_.count(cluster);
    if (count != 0) co_return false;
  }
  const bool reached = co_await space_.back_at(clusters);
  if (!reached) co_return false;
  const bool backed = co_await space_.fill_holes(clusters);
  if (!backed) co_return false;
  space_.took(clusters);
  reserved_.push_back(clusters);
  if (run_from_ == clusters.first) run_from_ = end;
  co_return true;
}

void ClusterAllocator::hold(HostCluster cluster) { reserved_.push_back({cluster, 1}); }

void ClusterAllocator::filled(HostClusters clusters) { forget_lapsed(clusters); }

void ClusterAllocator::forget_lapsed(HostClusters clusters) {
  std::erase_if(lapsed_, [&](HostCluster cluster) { return contains(clusters, cluster); });
}

void ClusterAllocator::release(HostClusters clusters) {
  const auto found = std::find_if(reserved_.begin(), reserved_.end(),
                                  [&](const HostClusters& range) { return range.first == clusters.first; });
  CHECK(found != reserved_.end() && found->count == clusters.count);
  reserved_.erase(found);
  for (const HostCluster cluster : lapsed_) {
    if (contains(clusters, cluster)) space_.freed(cluster);
  }
  forget_lapsed(clusters);
  // Parts of it may never have been used.
  single_from_ = std::min(single_from_, clusters.first);
  run_from_ = std::min(run_from_, clusters.first);
}

void ClusterAllocator::freed(HostCluster cluster) {
  const auto holds = [cluster](const HostClusters& range) { return contains(range, cluster); };
  if (std::any_of(reserved_.begin(), reserved_.end(), holds)) {
    lapsed_.push_back(cluster);
    return;
  }
  single_from_ = std::min(single_from_, cluster);
  run_from_ = std::min(run_from_, cluster);
  space_.freed(cluster);
}

}  // namespace qcow2
