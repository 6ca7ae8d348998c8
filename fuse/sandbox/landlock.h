// No path leads anywhere (Linux, Documentation/userspace-api/landlock.rst).
#pragma once

#include "core/unique_fd.h"

namespace fuse {

/// A Landlock ruleset that handles every access there is and allows none.
/// Threads    Any.
class PathBarrier {
 public:
  PathBarrier();

  /// False where the kernel has no Landlock, or it is switched off.
  bool available() const { return rules_.valid(); }
  /// For the calling thread and those that it makes from now on, for good: files are neither opened, made nor removed,
  /// and no TCP port is reached. Descriptors that are open stay usable. Needs no_new_privs. False where it failed.
  bool raise() const;

 private:
  core::UniqueFd rules_;
};

}  // namespace fuse
