// A part of a disk as a disk of its own: a partition.
#pragma once

#include "core/guest_disk.h"

namespace core {

/// Everything stays within its range, whoever asks: the disk below is never grown through it.
/// Ownership  The disk below is borrowed, and closed by its owner; other ranges of it may be in use.
/// Errors     A write that ends beyond the range throws ENOSPC, another size EPERM; either leaves all as it was.
/// Threads    The engine's strand.
class DiskRange final : public GuestDisk {
 public:
  /// [start, start + size) must lie within `disk`.
  DiskRange(GuestDisk& disk, DiskOffset start, std::uint64_t size);

  std::uint64_t size() const override { return size_; }
  std::uint32_t cluster_size() const override { return disk_.cluster_size(); }
  /// The disk's share by size: which of its bytes lie in the range is known to nobody. Never 0 where the disk has some:
  /// programs that copy would take the range for one hole.
  std::uint64_t allocated_bytes() const override;
  bool read_only() const override { return disk_.read_only(); }
  ErrorCode failure() const override { return disk_.failure(); }

  Awaitable<void> read(DiskOffset at, MutableBytes target) override;
  Awaitable<void> write(DiskOffset at, SharedBytes payload) override;
  Awaitable<void> zero(DiskOffset at, std::uint64_t length) override;
  Awaitable<void> resize(std::uint64_t size) override;
  Awaitable<void> flush() override { return disk_.flush(); }
  Awaitable<std::uint64_t> next_data(DiskOffset at) override;
  Awaitable<std::uint64_t> next_hole(DiskOffset at) override;
  Awaitable<void> close() override { co_return; }

 private:
  bool holds(DiskOffset at, std::uint64_t length) const { return at.value <= size_ && length <= size_ - at.value; }
  DiskOffset below(DiskOffset at) const { return start_ + at.value; }
  /// A position found on the disk below, as one of the range.
  std::uint64_t within(std::uint64_t found) const;

  GuestDisk& disk_;
  DiskOffset start_;
  std::uint64_t size_;
};

}  // namespace core
