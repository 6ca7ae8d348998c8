// What can be done with the disk's content: each a coroutine that answers once, or throws.
#pragma once

#include <cstdint>

#include "core/guest_disk.h"
#include "fuse/reply.h"
#include "fuse/statistics.h"
#include "fuse/tree.h"

namespace fuse {

/// Ownership  Every `reply` must outlive its coroutine.
/// Errors     What the asker got wrong is answered; what went wrong here is thrown.
/// Threads    The engine's.
class DiskOperations {
 public:
  DiskOperations(core::GuestDisk& disk, Tree& tree, Statistics& statistics)
      : disk_(disk), tree_(tree), statistics_(statistics) {}

  core::Awaitable<void> read(Reply& reply, core::DiskOffset at, std::size_t length);
  core::Awaitable<void> write(Reply& reply, core::DiskOffset at, core::SharedBytes payload);
  /// `mode` is fallocate(2)'s.
  core::Awaitable<void> allocate(Reply& reply, int mode, core::DiskOffset at, std::uint64_t length);
  /// truncate(2), chmod(2), chown(2) and utimes(2), as `mask` (FUSE_SET_ATTR_*) says.
  core::Awaitable<void> change(Reply& reply, struct stat wanted, int mask);
  core::Awaitable<void> flush(Reply& reply);
  core::Awaitable<void> seek_data(Reply& reply, core::DiskOffset at);
  core::Awaitable<void> seek_hole(Reply& reply, core::DiskOffset at);

 private:
  core::GuestDisk& disk_;
  Tree& tree_;
  Statistics& statistics_;
};

}  // namespace fuse
