// A file that names the daemon's process for service managers and scripts.
#pragma once

#include <string>

#include "core/unique_fd.h"
#include "fuse/sandbox/privileged_helper.h"

namespace fuse {

/// Holds the id of the process that made it, and goes away with it. Locked meanwhile (flock), so that what a killed
/// daemon left behind is told from what belongs to a living one. `helper` removes it, and must outlive it.
class PidFile {
 public:
  /// Throws core::Error with one line where another daemon has it, it holds something other than a process id, or it
  /// cannot be written.
  PidFile(const std::string& path, PrivilegedHelper& helper);
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();

 private:
  PrivilegedHelper& helper_;
  core::UniqueFd file_;
};

}  // namespace fuse
