#include "fuse/unmount.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/unique_fd.h"

namespace fuse {
namespace {

UnmountResult failed(std::string reason) { return {UnmountResult::failed, std::move(reason)}; }

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 512> part;
  for (;;) {
    const ssize_t got = ::read(descriptor, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
}

// The kernel lets only root unmount; fusermount3 is there for the others.
UnmountResult by_fusermount(const std::string& mountpoint, Unmount how) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(std::strerror(errno));
  const core::UniqueFd said(ends[0]);
  core::UniqueFd speaks(ends[1]);

  std::vector<const char*> arguments = {"fusermount3", "-u"};
  if (how == Unmount::detach) arguments.push_back("-z");
  arguments.insert(arguments.end(), {"--", mountpoint.c_str(), nullptr});
  std::array<const char*, 3> environment = {"LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin", nullptr};

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, speaks.get(), STDERR_FILENO);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, "fusermount3", &actions, nullptr,
                                   const_cast<char**>(arguments.data()),  // the interface is older than const
                                   const_cast<char**>(environment.data()));
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return failed(std::string("cannot run fusermount3: ") + std::strerror(error));

  speaks.reset();
  std::string complaint = read_all(said.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (complaint.find(std::strerror(EBUSY)) != std::string::npos) return {UnmountResult::busy, {}};
  complaint.resize(std::min(complaint.find('\n'), complaint.size()));
  constexpr std::string_view speaker = "fusermount3: ";
  if (complaint.starts_with(speaker)) complaint.erase(0, speaker.size());
  return failed(complaint.empty() ? "fusermount3 failed" : complaint);
}

}  // namespace

UnmountResult unmount(const std::string& mountpoint, Unmount how) {
  const int flags = UMOUNT_NOFOLLOW | (how == Unmount::detach ? MNT_DETACH : 0);
  if (::umount2(mountpoint.c_str(), flags) == 0) return {};
  if (errno == EBUSY) return {UnmountResult::busy, {}};
  if (errno != EPERM) return failed(std::strerror(errno));
  return by_fusermount(mountpoint, how);
}

bool daemon_died(const std::string& mountpoint) {
  struct statvfs facts {};
  return ::statvfs(mountpoint.c_str(), &facts) != 0 && errno == ENOTCONN;
}

}  // namespace fuse
