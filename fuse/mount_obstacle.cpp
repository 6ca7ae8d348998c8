#include "fuse/mount_obstacle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/unique_fd.h"

namespace fuse {
namespace {

constexpr const char* device_path = "/dev/fuse";

std::string explain_device() {
  const core::UniqueFd device(::open(device_path, O_RDWR | O_CLOEXEC));
  if (device.valid()) return {};
  switch (errno) {
    case ENOENT:
      return "there is no /dev/fuse; load the kernel's module (modprobe fuse), and give a container --device /dev/fuse";
    case ENODEV:
    case ENXIO: return "the kernel has no FUSE; load its module: modprobe fuse";
    case EACCES:
    case EPERM:
      return "no permission to open /dev/fuse; become a member of its group (ls -l /dev/fuse), and give a container "
             "--device /dev/fuse --cap-add SYS_ADMIN";
    default: return std::string("cannot open /dev/fuse: ") + std::strerror(errno);
  }
}

// The program that mounts for those who may not: where libfuse looks for it.
std::string explain_helper() {
  constexpr std::array paths = {"/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"};
  struct stat facts {};
  for (const char* const path : paths) {
    if (::stat(path, &facts) != 0) continue;
    if ((facts.st_mode & S_ISUID) != 0 && facts.st_uid == 0) return {};
    return std::string(path) + " is not setuid root, so that only root can mount; install the package fuse3 anew";
  }
  return "fusermount3 is missing, without which only root can mount; install the package fuse3";
}

struct Advice {
  std::string_view where_said;
  std::string_view what_to_do;
};
constexpr Advice advices[] = {
    {"user_allow_other", "; root can add that line, or mount without allow_other and allow_root"},
    {"no write access to mountpoint", "; choose a folder that you may write to"},
    {"mounting over filesystem type", "; choose a folder of an ordinary file system"},
    {"Operation not permitted", "; mounting needs CAP_SYS_ADMIN, which a container gets by --cap-add SYS_ADMIN"},
};

}  // namespace

std::string explain_mount_failure(const std::string& said) {
  if (const std::string device = explain_device(); !device.empty()) return device;
  if (::geteuid() != 0) {
    if (const std::string helper = explain_helper(); !helper.empty()) return helper;
  }
  for (const Advice& advice : advices) {
    if (said.find(advice.where_said) != std::string::npos) return said + std::string(advice.what_to_do);
  }
  return said;
}

}  // namespace fuse
