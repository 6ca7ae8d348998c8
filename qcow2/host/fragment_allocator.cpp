#include "qcow2/host/fragment_allocator.h"

#include <algorithm>
#include <cerrno>

#include "core/alignment.h"
#include "core/check.h"
#include "core/error.h"

namespace qcow2 {

FragmentAllocator::FragmentAllocator(ClusterAllocator& clusters, Refcounts& refcounts, CompressedWriteCache& cache,
                                     const Geometry& geometry, std::uint64_t fresh_block)
    : clusters_(clusters),
      refcounts_(refcounts),
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
    if (at < end_) {
      const bool extended = co_await extend();
      if (extended) continue;
    }
    close();
    co_await open_chunk();
    at = begin_;
  }
  const HostExtent extent{at, length};
  const HostClusters touched = geometry_.clusters_touched(extent);
  co_await refcounts_.raise(touched);
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
  const HostClusters next{geometry_.cluster_of(end_), chunk_ >> geometry_.cluster_bits};
  const bool reserved = co_await clusters_.reserve_at(next);
  if (reserved) end_ = end_ + chunk_;
  co_return reserved;
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
  while (begin_ < end_ && begin_ + chunk_ <= cursor_) {
    clusters_.release({geometry_.cluster_of(begin_), chunk_ >> geometry_.cluster_bits});
    begin_ = begin_ + chunk_;
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

void FragmentAllocator::close() {
  const bool partly_filled = begin_ < cursor_ && !core::is_aligned(cursor_.value, chunk_);
  if (begin_ < end_ && partly_filled) cache_.set_cluster_end(cursor_);
  while (begin_ < end_) {
    clusters_.release({geometry_.cluster_of(begin_), chunk_ >> geometry_.cluster_bits});
    begin_ = begin_ + chunk_;
  }
  begin_ = end_ = cursor_ = HostOffset{0};
}

}  // namespace qcow2
