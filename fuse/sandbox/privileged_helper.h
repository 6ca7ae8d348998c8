// What a confined daemon can no longer do itself is done by a second process, which knows one mount and one file.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <string>

#include "core/unique_fd.h"
#include "fuse/sandbox/own_mount.h"

namespace fuse {

/// A process that keeps the rights the daemon started with: to take its own mount away, which needs root or
/// fusermount3's setuid bit, and to remove its process id file. What these are it is told before the daemon looks at
/// requests, and cannot be told afterwards. It ends with the daemon, however that ends, and holds none of its
/// descriptors.
/// Threads    Any, one request at a time.
/// Errors     Where the helper is gone the outcome is `failed`.
class PrivilegedHelper {
 public:
  /// Forks: must be made before there is a second thread. Throws core::Error.
  PrivilegedHelper();
  ~PrivilegedHelper();
  PrivilegedHelper(const PrivilegedHelper&) = delete;
  PrivilegedHelper& operator=(const PrivilegedHelper&) = delete;

  /// What remove_file() removes: an absolute path. Throws core::Error.
  void keep_file(const std::string& path);
  /// What the others take away. Throws core::Error.
  void keep_mount(const OwnMount& mount);
  /// From now on keep_file() and keep_mount() do nothing. Throws core::Error.
  void seal();

  void remove_file();
  /// These block; see own_mount.h.
  OwnUnmount unmount_when_idle();
  OwnUnmount store_and_unmount();
  OwnUnmount detach();

 private:
  OwnUnmount ask(const std::string& request);
  void tell(const std::string& request);

  std::mutex asking_;
  core::UniqueFd socket_;
  pid_t process_ = -1;
};

}  // namespace fuse
