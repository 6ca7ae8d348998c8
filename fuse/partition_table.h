// Which partitions a disk has, as the kernel would number them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/guest_disk.h"

namespace fuse {

struct Partition {
  unsigned number = 0;  ///< MBR: 1 to 4, logical ones from 5 on; GPT: the place in the table
  core::DiskOffset start;
  std::uint64_t size = 0;  ///< bytes; lies within the disk

  core::DiskOffset end() const { return start + size; }
};

/// What the table of `disk` says, in the order of the numbers; nothing where there is no table that can be read.
/// MBR with extended partitions, whose logical ones count but not they themselves, and GPT, of sectors of 512 or 4096
/// bytes; where the first of a GPT's two copies is damaged, the second. As the kernel does, a partition that begins
/// behind the end of the disk is left out, and one that only ends there is cut short.
/// Errors     What cannot be read is logged and taken for damaged. Throws core::Error where memory lacks.
core::Awaitable<std::optional<std::vector<Partition>>> read_partition_table(core::GuestDisk& disk);

}  // namespace fuse
