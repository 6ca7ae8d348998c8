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
  in_use_ += clusters.count;
}

void SpaceReserve::freed(HostCluster cluster) {
  in_use_ -= std::min<std::uint64_t>(in_use_, 1);
  window_begin_ = std::min(window_begin_, cluster);
  window_end_ = std::max(window_end_, cluster + 1);
  if (cluster >= frontier_ || hole(cluster)) return;
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

core::Awaitable<bool> SpaceReserve::back_at(HostClusters clusters) {
  const std::uint64_t step = std::max(clusters.count, limits::reserve_bytes >> geometry_.cluster_bits);
  const HostCluster end = clusters.first + clusters.count;
  if (clusters.first <= frontier_ + step) {
    co_await back_up_to(end);
    co_return true;
  }
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  if (clusters.first >= apart_.first && end <= apart_.first + apart_.count) co_return true;
  const HostExtent ahead{geometry_.start_of(clusters.first), step << geometry_.cluster_bits};
  const bool backed = co_await back(ahead);
  if (!backed) co_return false;
  apart_ = {clusters.first, step};
  window_begin_ = std::min(window_begin_, clusters.first);
  window_end_ = std::max(window_end_, clusters.first + step);
  co_return true;
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

// All but clusters in use that have holes: nobody needs those filled. Others in use may be sparse, and are rewritten.
core::Awaitable<void> SpaceReserve::back_range(HostCluster from, HostCluster to) {
  while (from < to) {
    HostCluster end = from;
    while (end < to) {
      std::uint64_t references = 0;
      if (hole(end)) references = co_await refcounts_.count(end);
      if (references != 0) break;
      end = end + 1;
    }
    if (from < end) {
      promised_ = co_await file_.reserve(geometry_.start_of(from), (end - from) << geometry_.cluster_bits);
      forget_holes({from, end - from});
    }
    from = end + 1;
  }
}

// By `clusters`, or by less where the host has not that much left.
core::Awaitable<void> SpaceReserve::push_frontier(std::uint64_t clusters) {
  for (std::uint64_t step = std::max(clusters, chunk_);; step /= 2) {
    const HostCluster to = frontier_ + step;
    const std::uint64_t added = co_await refcounts_.count_free(frontier_, to, chunk_);
    bool backed = true;
    if (added != 0) {
      try {
        co_await back_range(frontier_, to);
      } catch (const core::Error& error) {
        if (step == chunk_ || !core::means_no_space(error.code())) throw;
        backed = false;
      }
    }
    if (!backed) continue;
    // Clusters may have been taken or freed while the host was asked; what was taken was counted by took().
    window_begin_ = std::min(window_begin_, frontier_);
    frontier_ = to;
    free_ += added;
    co_return;
  }
}

// Whole chunks: of others, what is free counts as backed.
core::Awaitable<void> SpaceReserve::punch(HostClusters clusters) {
  const std::uint64_t begin = core::align_up(clusters.first.value, chunk_);
  const std::uint64_t end = core::align_down(clusters.first.value + clusters.count, chunk_);
  if (begin >= end) co_return;
  co_await file_.punch(geometry_.start_of(HostCluster{begin}), (end - begin) << geometry_.cluster_bits);
}

core::Awaitable<void> SpaceReserve::retreat(HostCluster lowest, const std::function<bool()>& idle,
                                            std::uint64_t runs_max) {
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  if (!idle()) co_return;
  // From here on nothing free counts as backed: who needs space has the frontier pushed on again, from the first hole.
  window_end_ = std::max(window_end_, frontier_);
  window_begin_ = std::max(window_begin_, lowest);
  frontier_ = HostCluster{core::align_down(lowest.value, chunk_)};
  free_ = 0;
  stale_ = false;
  apart_ = {};
  const HostCluster end = std::min(window_end_, HostCluster{geometry_.host_clusters(file_.size())});
  for (std::uint64_t runs = 0; runs < runs_max && idle(); ++runs) {
    const HostClusters run = co_await refcounts_.next_free_run(window_begin_, end);
    if (run.count == 0) {
      window_begin_ = window_end_;
      break;
    }
    window_begin_ = run.first + run.count;
    co_await punch(run);
  }
  co_await cut_tail(chunk_);
  co_await back_rest_of_last_chunk();
  if (window_begin_ >= window_end_) window_begin_ = window_end_ = frontier_;
}

// Also where its length does not change: that gives back what was set aside beyond.
core::Awaitable<void> SpaceReserve::cut_tail(std::uint64_t unit) {
  const HostCluster file_end{geometry_.host_clusters(file_.size())};
  if (file_end > refcounts_.covered_end()) co_return;
  const HostCluster end = co_await refcounts_.end_of_use(file_end);
  const HostCluster kept{core::align_up(end.value, unit)};
  co_await file_.truncate(std::min(file_.size(), geometry_.start_of(kept).value));
}

// What was set aside beyond the file's end went with the tail, and of a chunk in use the rest counts as backed.
core::Awaitable<void> SpaceReserve::back_rest_of_last_chunk() {
  const std::uint64_t size = file_.size();
  const std::uint64_t rest = core::align_up(size, chunk_ << geometry_.cluster_bits) - size;
  if (rest == 0) co_return;
  const HostExtent behind{HostOffset{size}, rest};
  const bool backed = co_await back(behind);
  if (!backed) has_holes(geometry_.cluster_of(HostOffset{size}));
}

void SpaceReserve::has_holes(HostCluster cluster) {
  if (cluster.value >= holes_.size()) holes_.resize(cluster.value + cluster.value / 8 + 64);
  holes_.set(cluster.value);
}

void SpaceReserve::forget_holes(HostClusters clusters) {
  for (std::uint64_t i = 0; i < clusters.count; ++i) {
    if (hole(clusters.first + i)) holes_.reset((clusters.first + i).value);
  }
}

core::Awaitable<bool> SpaceReserve::fill_holes(HostClusters clusters) {
  std::uint64_t unbacked = 0;
  for (std::uint64_t i = 0; i < clusters.count; ++i) unbacked += hole(clusters.first + i) ? 1 : 0;
  if (unbacked == 0) co_return true;
  const HostExtent extent{geometry_.start_of(clusters.first), clusters.count << geometry_.cluster_bits};
  const bool backed = co_await back(extent);
  if (!backed) co_return false;
  forget_holes(clusters);
  if (clusters.first < frontier_) free_ += unbacked;
  co_return true;
}

core::Awaitable<std::uint64_t> SpaceReserve::free_with_holes() {
  std::uint64_t free = 0;
  for (std::size_t at = holes_.find_first(); at < frontier_.value; at = holes_.find_next(at)) {
    const std::uint64_t count = co_await refcounts_.count(HostCluster{at});
    if (count == 0) ++free;
  }
  co_return free;
}

core::Awaitable<void> SpaceReserve::count_in_use() {
  const HostCluster end = co_await refcounts_.end_of_use(HostCluster{geometry_.host_clusters(file_.size())});
  const std::uint64_t free = co_await refcounts_.count_free(HostCluster{0}, end, 1);
  in_use_ = end.value - free;
}

core::Awaitable<void> SpaceReserve::recount() {
  const core::AsyncMutex::Guard alone = co_await pushing_.lock();
  co_await count_anew();
}

core::Awaitable<void> SpaceReserve::count_anew() {
  stale_ = false;
  const std::uint64_t taken_before = taken_;
  const std::uint64_t free = co_await refcounts_.count_free(HostCluster{0}, frontier_, chunk_);
  const std::uint64_t unbacked = co_await free_with_holes();
  const std::uint64_t counted = free - std::min(free, unbacked);
  const std::uint64_t taken_meanwhile = taken_ - taken_before;
  free_ = counted - std::min(counted, taken_meanwhile);
}

}  // namespace qcow2
