// What a mount has done, for programs.
#pragma once

#include <string>

#include "core/guest_disk.h"
#include "fuse/statistics.h"

namespace fuse {

/// One JSON object, as `qcowfs status --json` prints it. Counts and bytes are since the mount began, times are
/// microseconds, sizes bytes.
std::string status_json(const core::GuestDisk& disk, const core::DiskStatus& status, const Statistics& statistics);

}  // namespace fuse
