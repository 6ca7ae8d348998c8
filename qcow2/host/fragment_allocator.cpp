#include "qcow2/host/fragment_allocator.h"

#include <algorithm>
#include <cerrno>

#include "core/alignment.h"
#include "core/check.h"
#include "core/error.h"

namespace qcow2 {

FragmentAllocator::FragmentAllocator(ClusterAllocator& clusters, Refcounts& refcounts, SpaceReserve& space,
                                     BlockUse& block_use, CompressedWriteCache& cache, const Geometry& geometry,
                                     std::uint64_t fresh_block)
    : clusters_(clusters),
      refcounts_(refcounts),
      space_(space),
      block_use_(block_use),
      cache_(cache),
      geometry_(geometry),
      fresh_block_(fresh_block),
      chunk_(chunk_size(geometry, fresh_block)) {}

std::uint64_t FragmentAllocator::chunk_size(const Geometry& geometry, std::uint64_t fresh_block) {
  return std::max(geometry.cluster_size(), fresh_block);
}

core::Awaitable<HostOffset> FragmentAllocator::allocate(std::uint64_t length, std::uint64_t alignment) {
  CHECK(length > 0 && length <= geometry_.cluster_size());
  HostOffset at{core::align_up(cursor_.value, alignment)};
  for (;;) {
    const bool room = co_await fits(at, length);
    if (room) break;
    if (at + length <= end_) {
      at = geometry_.start_of(geometry_.cluster_of(at) + 1);  // a cluster whose refcount is full takes no more
      continue;
    }
    const bool among_others = co_await open_run(length);
    if (!among_others && at < end_) {
      const bool extended = co_await extend();
      if (extended) continue;
    }
    if (!among_others) {
      close();
      co_await open_chunk();
    }
    at = HostOffset{core::align_up(begin_.value, alignment)};
  }
  const HostExtent extent{at, length};
  const HostClusters touched = geometry_.clusters_touched(extent);
  co_await refcounts_.raise(touched);
  clusters_.filled(touched);
  if (alignment == 1) block_use_.add(extent);
  pass_over(at);
  cursor_ = at + length;
  leave_filled_chunks();
  co_return at;
}

core::Awaitable<bool> FragmentAllocator::fits(HostOffset at, std::uint64_t length) {
  if (at + length > end_ || at < begin_) co_return false;
  const HostExtent extent{at, length};
  const HostClusters touched = geometry_.clusters_touched(extent);
  for (std::uint64_t i = 0; i < touched.count; ++i) {
    const HostCluster cluster = touched.first + i;
    const std::uint64_t count = co_await refcounts_.count(cluster);
    if (count >= geometry_.refcount_max()) co_return false;
  }
  co_return true;
}

core::Awaitable<bool> FragmentAllocator::extend() {
  if (!core::is_aligned(end_.value, chunk_)) co_return false;
  const HostClusters next = chunk_of(end_);
  const bool reserved = co_await clusters_.reserve_at(next);
  if (reserved) end_ = end_ + chunk_;
  co_return reserved;
}

HostClusters FragmentAllocator::chunk_of(HostOffset at) const {
  const HostOffset begin{core::align_down(at.value, chunk_)};
  return {geometry_.cluster_of(begin), chunk_ >> geometry_.cluster_bits};
}

// Where the host has not the space to fill what it may have taken back, it is passed over this once.
core::Awaitable<bool> FragmentAllocator::open_run(std::uint64_t length) {
  if (dense_ != 0) co_return false;
  const std::optional<HostExtent> run = block_use_.find_run(length);
  if (!run) co_return false;
  const HostCluster cluster = geometry_.cluster_of(run->at);
  const std::uint64_t count = co_await refcounts_.count(cluster);
  if (count == 0 || count >= geometry_.refcount_max()) co_return false;
  close();
  clusters_.hold(cluster);
  const bool backed = co_await space_.back(*run);
  if (!backed) {
    clusters_.release({cluster, 1});
    co_return false;
  }
  block_use_.backed(cluster);
  begin_ = cursor_ = run->at;
  end_ = begin_ + run->length;
  in_run_ = true;
  cache_.reopen(begin_, end_);
  co_return true;
}

core::Awaitable<void> FragmentAllocator::open_chunk() {
  const HostClusters chunk = co_await clusters_.reserve(chunk_ >> geometry_.cluster_bits);
  begin_ = cursor_ = geometry_.start_of(chunk.first);
  end_ = begin_ + chunk_;
  if (end_.value > geometry_.compressed_offset_max()) {
    core::fail_errno(ENOSPC, "the image file cannot grow beyond what a compressed cluster descriptor can name");
  }
}

void FragmentAllocator::leave_filled_chunks() {
  while (begin_ < end_ && chunk_end(begin_) <= cursor_) {
    clusters_.release(chunk_of(begin_));
    begin_ = chunk_end(begin_);
    in_run_ = false;
  }
}

void FragmentAllocator::pass_over(HostOffset at) {
  if (cursor_ < at) cache_.skip_to(cursor_, at);
}

void FragmentAllocator::seal() {
  if (begin_ == end_) return;
  const HostOffset fresh{core::align_up(cursor_.value, fresh_block_)};
  if (fresh >= end_) return close();
  pass_over(fresh);
  cursor_ = fresh;
  leave_filled_chunks();
}

core::Awaitable<void> FragmentAllocator::open_at(HostCluster cluster) {
  close();
  const HostOffset at{core::align_up(geometry_.start_of(cluster).value, chunk_)};
  if (at.value + chunk_ > geometry_.compressed_offset_max()) co_return;
  const HostClusters chunk = chunk_of(at);
  const bool reserved = co_await clusters_.reserve_at(chunk);
  if (!reserved) co_return;
  begin_ = cursor_ = at;
  end_ = begin_ + chunk_;
}

core::Awaitable<void> FragmentAllocator::close_if_not_lowest() {
  HostCluster from{core::align_up(clusters_.lowest_free().value, chunk_ >> geometry_.cluster_bits)};
  const HostCluster open = geometry_.cluster_of(begin_);
  while (begin_ < end_ && from < open) {
    const HostClusters run = co_await refcounts_.next_free_run(from, open);
    if (run.count == 0) break;
    const std::uint64_t chunk = chunk_ >> geometry_.cluster_bits;
    from = HostCluster{core::align_up(run.first.value, chunk)};
    if (from + chunk <= run.first + run.count) close();
    from = from + chunk;
  }
}

void FragmentAllocator::close() {
  const bool partly_filled = begin_ < cursor_ && !core::is_aligned(cursor_.value, chunk_);
  if (in_run_) {
    cache_.skip_to(cursor_, end_);
  } else if (begin_ < end_ && partly_filled) {
    cache_.set_cluster_end(cursor_);
  }
  for (; begin_ < end_; begin_ = chunk_end(begin_)) clusters_.release(chunk_of(begin_));
  begin_ = end_ = cursor_ = HostOffset{0};
  in_run_ = false;
}

}  // namespace qcow2
