#include "tests/support/memory_disk.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace test {

template <class Visit>
void MemoryDisk::for_each_piece(core::DiskOffset at, std::uint64_t length, Visit visit) {
  std::uint64_t position = at.value;
  const std::uint64_t end = at.value + length;
  while (position < end) {
    const std::uint64_t within = position % cluster_size_;
    const std::uint64_t count = std::min(end - position, cluster_size_ - within);
    visit(position / cluster_size_, within, count);
    position += count;
  }
}

core::Awaitable<void> MemoryDisk::read(core::DiskOffset at, core::MutableBytes target) {
  CHECK(!closed_ && at.value + target.size() <= size_);
  std::byte* next = target.data();
  for_each_piece(at, target.size(), [&](std::uint64_t index, std::uint64_t within, std::uint64_t count) {
    const auto found = clusters_.find(index);
    if (found == clusters_.end()) {
      std::memset(next, 0, count);
    } else {
      std::memcpy(next, found->second.data() + within, count);
    }
    next += count;
  });
  co_return;
}

core::Awaitable<void> MemoryDisk::write(core::DiskOffset at, core::SharedBytes payload) {
  CHECK(!closed_ && !read_only_);
  size_ = std::max(size_, at.value + payload.size());
  const std::byte* next = payload.bytes.data();
  for_each_piece(at, payload.size(), [&](std::uint64_t index, std::uint64_t within, std::uint64_t count) {
    auto [found, added] = clusters_.try_emplace(index);
    if (added) found->second = core::Buffer::zeroed(cluster_size_);
    std::memcpy(found->second.data() + within, next, count);
    next += count;
  });
  co_return;
}

core::Awaitable<void> MemoryDisk::zero(core::DiskOffset at, std::uint64_t length) {
  CHECK(!closed_ && !read_only_ && at.value + length <= size_);
  for_each_piece(at, length, [&](std::uint64_t index, std::uint64_t within, std::uint64_t count) {
    const auto found = clusters_.find(index);
    if (found == clusters_.end()) return;
    if (count == cluster_size_) {
      clusters_.erase(found);
    } else {
      std::memset(found->second.data() + within, 0, count);
    }
  });
  co_return;
}

core::Awaitable<void> MemoryDisk::resize(std::uint64_t size) {
  CHECK(!closed_ && !read_only_);
  if (size < size_) {
    const std::uint64_t kept_clusters = (size + cluster_size_ - 1) / cluster_size_;
    clusters_.erase(clusters_.lower_bound(kept_clusters), clusters_.end());
    const std::uint64_t tail_end = std::min(size_, kept_clusters * cluster_size_);
    const core::DiskOffset at{size};
    const std::uint64_t tail = tail_end - size;
    co_await zero(at, tail);
  }
  size_ = size;
}

core::Awaitable<void> MemoryDisk::flush() {
  CHECK(!closed_);
  ++flushes_;
  if (failure_) throw core::Error(failure_, "flushing");
  co_return;
}

core::Awaitable<std::uint64_t> MemoryDisk::next_data(core::DiskOffset at) {
  if (is_allocated(at.value)) co_return at.value;
  const auto next = clusters_.lower_bound(at.value / cluster_size_);
  co_return next == clusters_.end() ? size_ : next->first* cluster_size_;
}

core::Awaitable<std::uint64_t> MemoryDisk::next_hole(core::DiskOffset at) {
  std::uint64_t position = at.value;
  while (position < size_ && is_allocated(position)) position = (position / cluster_size_ + 1) * cluster_size_;
  co_return std::min(position, size_);
}

core::Awaitable<void> MemoryDisk::close() {
  CHECK(!closed_);
  closed_ = true;
  if (failure_) throw core::Error(failure_, "closing");
  co_return;
}

}  // namespace test
