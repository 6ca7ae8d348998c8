// A serving daemon gives up every power that serving does not need.
#pragma once

#include <string>

#include "core/engine.h"

namespace fuse {

/// Whether a mount is confined where nothing is said. Sanitizers look at their process from outside when they report.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sandbox_by_default = false;
#else
constexpr bool sandbox_by_default = true;
#endif

/// What the kernel granted, in that order.
struct Confinement {
  bool no_capabilities = false;
  bool landlock = false;       ///< since Linux 5.13, where it is switched on
  bool system_calls = false;   ///< the filter, and no_new_privs with it
  std::string why_unfiltered;  ///< where the filter could not be had: the system's words

  /// One line for a log.
  std::string describe() const;
};

/// In all threads of `engine`, which must be all there are, for good: no capabilities; no path leads anywhere and no
/// port is reached (Landlock); only the system calls of syscall_filter.h. What is open stays usable.
/// Threads    On the strand.
Confinement confine(core::ThreadedEngine& engine);

}  // namespace fuse
