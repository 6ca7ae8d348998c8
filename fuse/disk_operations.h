// What can be done with a file's content: each a coroutine that answers once, or throws.
#pragma once

#include <cstdint>

#include "core/guest_disk.h"
#include "fuse/reply.h"
#include "fuse/statistics.h"
#include "fuse/tree.h"

namespace fuse {

/// What becomes of a write across the end of a file whose size stays.
enum class AtTheEnd {
  cut_short,  ///< what fits is written, and that is the answer
  refused,    ///< nothing is: to the kernel, an answer that speaks of less than all of a direct write is EIO
};

/// Ownership  Every `reply` must outlive its coroutine.
/// Errors     What the asker got wrong is answered; what went wrong here is thrown.
/// Threads    The engine's.
class DiskOperations {
 public:
  /// For `tree`'s file of that number.
  DiskOperations(Tree& tree, std::size_t file, Statistics& statistics)
      : tree_(tree),
        disk_(*tree.files()[file].disk),
        statistics_(statistics),
        size_change_(tree.files()[file].size_change),
        inode_(tree.inode_of(file)) {}

  core::Awaitable<void> read(Reply& reply, core::DiskOffset at, std::size_t length);
  core::Awaitable<void> write(Reply& reply, core::DiskOffset at, core::SharedBytes payload, AtTheEnd at_the_end);
  /// `mode` is fallocate(2)'s.
  core::Awaitable<void> allocate(Reply& reply, int mode, core::DiskOffset at, std::uint64_t length);
  /// truncate(2), chmod(2), chown(2) and utimes(2), as `mask` (FUSE_SET_ATTR_*) says.
  core::Awaitable<void> change(Reply& reply, struct stat wanted, int mask);
  core::Awaitable<void> flush(Reply& reply);
  core::Awaitable<void> seek_data(Reply& reply, core::DiskOffset at);
  core::Awaitable<void> seek_hole(Reply& reply, core::DiskOffset at);

 private:
  Tree& tree_;
  core::GuestDisk& disk_;
  Statistics& statistics_;
  SizeChange size_change_;
  fuse_ino_t inode_;
};

}  // namespace fuse
