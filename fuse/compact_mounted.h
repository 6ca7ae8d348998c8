// `qcowfs compact` of an image that is mounted: asks its daemon, by an extended attribute.
#pragma once

#include <functional>
#include <string>

#include "fuse/options.h"

namespace fuse {

/// `path` is a mount of qcowfs, or a disk in one.
bool is_mounted_disk(const std::string& path);
/// Has the daemon do it and waits; asks it to end early where `interrupted()` says so. Prints the sizes before and
/// after. Returns the exit status; throws core::Error.
int compact_mounted(const CompactOptions& options, const std::function<bool()>& interrupted);

}  // namespace fuse
