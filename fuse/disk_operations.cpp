#include "fuse/disk_operations.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

namespace fuse {
namespace {

bool beyond_addressing(core::DiskOffset at, std::uint64_t length) {
  constexpr auto last = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  return at.value > last || length > last - at.value;
}

}  // namespace

core::Awaitable<void> DiskOperations::read(Reply& reply, core::DiskOffset at, std::size_t length) {
  const std::uint64_t size = disk_.size();
  const std::uint64_t left = at.value < size ? size - at.value : 0;
  core::Buffer target(std::min<std::uint64_t>(left, length));
  const core::MutableBytes bytes = target.span();
  if (!bytes.empty()) co_await disk_.read(at, bytes);
  statistics_.of(RequestKind::read).bytes += bytes.size();
  reply.bytes(bytes);
}

core::Awaitable<void> DiskOperations::write(Reply& reply, core::DiskOffset at, core::SharedBytes payload,
                                            AtTheEnd at_the_end) {
  std::size_t length = payload.size();
  if (disk_.read_only()) co_return reply.error(EROFS);
  if (beyond_addressing(at, length)) co_return reply.error(EFBIG);
  if (size_change_ == SizeChange::refused && (at + length).value > disk_.size() && length != 0) {
    if (at.value >= disk_.size() || at_the_end == AtTheEnd::refused) co_return reply.error(ENOSPC);
    length = disk_.size() - at.value;
    payload = payload.slice(0, length);
  }
  if (length != 0) co_await disk_.write(at, std::move(payload));
  tree_.touch(inode_);
  statistics_.of(RequestKind::write).bytes += length;
  reply.written(length);
}

core::Awaitable<void> DiskOperations::allocate(Reply& reply, int mode, core::DiskOffset at, std::uint64_t length) {
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int action = mode & ~FALLOC_FL_KEEP_SIZE;
  const bool punch = action == FALLOC_FL_PUNCH_HOLE && keep_size;
  const bool zero = action == FALLOC_FL_ZERO_RANGE || punch;
  if (!zero && action != 0) co_return reply.error(EOPNOTSUPP);
  if (disk_.read_only()) co_return reply.error(EROFS);
  if (beyond_addressing(at, length)) co_return reply.error(EFBIG);

  const core::DiskOffset end = at + length;
  const bool grows = !keep_size && end.value > disk_.size();
  if (grows && size_change_ == SizeChange::refused) co_return reply.error(ENOSPC);
  const std::uint64_t zero_end = std::min(end.value, disk_.size());
  if (zero && at.value < zero_end) {
    const std::uint64_t zero_length = zero_end - at.value;
    co_await disk_.zero(at, zero_length);
  }
  // Space for compressed data cannot be set aside: how much it will take is not known.
  if (grows) co_await disk_.resize(end.value);
  tree_.touch(inode_);
  reply.done();
}

core::Awaitable<void> DiskOperations::change(Reply& reply, struct stat wanted, int mask) {
  if ((mask & FUSE_SET_ATTR_SIZE) != 0) {
    if (disk_.read_only()) co_return reply.error(EROFS);
    if (wanted.st_size < 0) co_return reply.error(EINVAL);
    const auto size = static_cast<std::uint64_t>(wanted.st_size);
    if (size != disk_.size() && size_change_ == SizeChange::refused) co_return reply.error(EPERM);
    if (size != disk_.size()) co_await disk_.resize(size);
    tree_.touch(inode_);
  }
  tree_.change(inode_, wanted, mask);
  reply.attributes(*tree_.attributes(inode_), tree_.attributes_valid_s(inode_));
}

core::Awaitable<void> DiskOperations::flush(Reply& reply) {
  co_await disk_.flush();
  reply.done();
}

core::Awaitable<void> DiskOperations::seek_data(Reply& reply, core::DiskOffset at) {
  if (at.value >= disk_.size()) co_return reply.error(ENXIO);
  const std::uint64_t found = co_await disk_.next_data(at);
  if (found >= disk_.size()) co_return reply.error(ENXIO);
  reply.position(found);
}

core::Awaitable<void> DiskOperations::seek_hole(Reply& reply, core::DiskOffset at) {
  if (at.value >= disk_.size()) co_return reply.error(ENXIO);
  const std::uint64_t found = co_await disk_.next_hole(at);
  reply.position(found);
}

}  // namespace fuse
