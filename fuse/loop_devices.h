// Loop devices over the files of a mount. They keep it in use as programs do, but stand in no list of programs; and
// file systems on them hold data in memory that nobody but they know of.
#pragma once

#include <string>
#include <vector>

namespace fuse {

/// The devices ("/dev/loop0") over a file at or below `mountpoint`, a path as canonical_mountpoint() returns it.
std::vector<std::string> loop_devices_over(const std::string& mountpoint);

/// Makes what the file systems that are mounted from `devices`, or from partitions of them, hold in memory reach the
/// devices. Where that fails, or such a file system cannot be reached from here, it is left as it is.
/// Threads    Blocks for as long as the writes take: somebody else must serve the files below.
void sync_file_systems_on(const std::vector<std::string>& devices);

}  // namespace fuse
