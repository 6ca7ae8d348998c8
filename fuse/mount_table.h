// What is mounted where, from the kernel's own list: asks no file system, so none of them can hang or refuse.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fuse {

struct MountEntry {
  std::string device;  ///< "major:minor", what st_dev is of everything in it
  std::string mountpoint;
  std::string type;    ///< "fuse.qcowfs"
  std::string source;  ///< fsname
  std::string owner;   ///< of a FUSE mount: user id in digits, else empty
};

/// One line of /proc/self/mountinfo; nothing where it is none.
std::optional<MountEntry> parse_mount_line(std::string_view line);

/// The topmost mount at exactly `mountpoint`, a path as canonical_mountpoint() returns it.
std::optional<MountEntry> find_mount(const std::string& mountpoint);

/// The absolute path of a mount point, found without looking at what is mounted there, which may be dead.
/// Throws core::Error where there is no such path.
std::string canonical_mountpoint(const std::string& path);

}  // namespace fuse
