// Who keeps a file locked, for people who must find the program and end it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace core {

struct LockHolder {
  pid_t process = 0;
  std::string program;  ///< its short name
};

/// The other processes with record locks, of any kind, on bytes first to last of the file behind `descriptor`, as far
/// as we may see them: those of other users only as root, and none outside our PID namespace. Walks through /proc.
std::vector<LockHolder> find_lock_holders(int descriptor, off_t first, off_t last);

}  // namespace core
