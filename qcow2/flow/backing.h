// What lies below the image: the disk that it was derived from. It shows where the image says nothing.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/guest_disk.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Units      Bytes; both disks begin at the same byte. Of the disk below, nothing shows beyond the end of this one.
/// Threads    The engine's strand.
class Backing {
 public:
  /// `disk` may be null: then all reads as zeros. `guest_size` is the size of the disk above, at any time.
  Backing(std::unique_ptr<core::GuestDisk> disk, const std::uint64_t& guest_size)
      : disk_(std::move(disk)), guest_size_(guest_size) {}

  std::uint64_t size() const { return disk_ ? disk_->size() : 0; }
  /// Something may show there where the image says nothing.
  bool covers(GuestOffset at) const { return at.value < size(); }

  core::Awaitable<void> read(GuestOffset at, core::MutableBytes target) {
    const std::uint64_t end = std::min(size(), guest_size_);
    const std::size_t shown = at.value >= end ? 0 : std::min<std::uint64_t>(target.size(), end - at.value);
    std::memset(target.data() + shown, 0, target.size() - shown);
    if (shown != 0) co_await disk_->read(at, target.first(shown));
  }

  /// The first byte from `at` on that is known to read as zeros, or that may not; size() or more where there is none.
  core::Awaitable<std::uint64_t> next_hole(GuestOffset at) {
    return covers(at) ? disk_->next_hole(at) : known(at.value);
  }
  core::Awaitable<std::uint64_t> next_data(GuestOffset at) { return covers(at) ? disk_->next_data(at) : known(~0ull); }

  core::Awaitable<void> close() {
    if (disk_) co_await disk_->close();
  }

 private:
  static core::Awaitable<std::uint64_t> known(std::uint64_t value) { co_return value; }

  std::unique_ptr<core::GuestDisk> disk_;
  const std::uint64_t& guest_size_;
};

}  // namespace qcow2
