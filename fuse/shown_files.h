// Which files a mount shows: the whole disk, or partitions of it.
#pragma once

#include <memory>
#include <vector>

#include "core/guest_disk.h"
#include "fuse/mount_plan.h"
#include "fuse/tree.h"

namespace fuse {

struct ShownFiles {
  std::vector<ShownFile> files;
  std::vector<std::unique_ptr<core::GuestDisk>> partitions;  ///< what `files` show, where they are no whole disk
};

/// What `plan` asks for, with the partitions as the disk's table has them now.
/// Ownership  `disk` is borrowed by the files.
/// Errors     Throws core::Error with one line where there is no such partition, where there are more than anybody has,
///            or where two that can be written overlap: what is written to the one would not be seen in the other.
core::Awaitable<ShownFiles> choose_files(core::GuestDisk& disk, const MountPlan& plan);

}  // namespace fuse
