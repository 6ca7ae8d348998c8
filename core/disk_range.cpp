#include "core/disk_range.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace core {
namespace {

constexpr std::uint64_t smallest_share = 512;  // what stat(2) counts in

}  // namespace

DiskRange::DiskRange(GuestDisk& disk, DiskOffset start, std::uint64_t size) : disk_(disk), start_(start), size_(size) {
  CHECK(start.value <= disk.size() && size <= disk.size() - start.value);
}

std::uint64_t DiskRange::allocated_bytes() const {
  const std::uint64_t allocated = disk_.allocated_bytes();
  if (allocated == 0 || size_ == 0) return 0;
  const double share = static_cast<double>(size_) / static_cast<double>(disk_.size());
  return std::max(smallest_share, static_cast<std::uint64_t>(static_cast<double>(allocated) * share));
}

Awaitable<void> DiskRange::read(DiskOffset at, MutableBytes target) {
  CHECK(holds(at, target.size()));
  return disk_.read(below(at), target);
}

Awaitable<void> DiskRange::write(DiskOffset at, SharedBytes payload) {
  if (!holds(at, payload.size())) fail_errno(ENOSPC, "a partition ends here");
  co_await disk_.write(below(at), std::move(payload));
}

Awaitable<void> DiskRange::zero(DiskOffset at, std::uint64_t length) {
  CHECK(holds(at, length));
  return disk_.zero(below(at), length);
}

Awaitable<void> DiskRange::resize(std::uint64_t size) {
  if (size != size_) fail_errno(EPERM, "a partition's size is that of its table");
  co_return;
}

Awaitable<std::uint64_t> DiskRange::next_data(DiskOffset at) {
  if (at.value >= size_) co_return size_;
  const std::uint64_t found = co_await disk_.next_data(below(at));
  co_return within(found);
}

Awaitable<std::uint64_t> DiskRange::next_hole(DiskOffset at) {
  if (at.value >= size_) co_return size_;
  const std::uint64_t found = co_await disk_.next_hole(below(at));
  co_return within(found);
}

std::uint64_t DiskRange::within(std::uint64_t found) const {
  CHECK(found >= start_.value);
  return std::min(found - start_.value, size_);
}

}  // namespace core
