// Takes a mount away, as root or with fusermount3's help.
#pragma once

#include <string>

namespace fuse {

enum class Unmount {
  when_idle,  ///< refused while anything uses it
  detach,     ///< gone from the tree at once; the mount ends when the last user has left
};

struct UnmountResult {
  enum { done, busy, failed } outcome = done;
  std::string reason;  ///< one line, where it failed
};

/// Blocks, and the file system in question must be able to answer meanwhile: never call it on the engine.
UnmountResult unmount(const std::string& mountpoint, Unmount how);

/// The daemon of the mount at `mountpoint` is gone. Asks what the kernel never answers from memory: a dead mount's root
/// may have its attributes cached for a day. Blocks while a living daemon is busy.
bool daemon_died(const std::string& mountpoint);

}  // namespace fuse
