// `qcowfs umount`: takes the mount away and waits until the daemon has stored everything and let go of the
// image.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/unique_fd.h"
#include "fuse/control_address.h"
#include "fuse/loop_devices.h"
#include "fuse/mount_table.h"
#include "fuse/progress.h"
#include "fuse/unmount.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"

namespace fuse {
namespace {

constexpr int ending_wait_ms = 10'000;  // from the unmount to the daemon's noticing it: normally no time at all
constexpr int exit_wait_ms = 5'000;     // from the last word to the process's end

// The daemon's end of the conversation.
struct Daemon {
  core::UniqueFd socket;
  core::UniqueFd process;  ///< to wait for; may be missing
};

std::optional<Daemon> ask_daemon(const MountEntry& entry) {
  Daemon daemon;
  daemon.socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const ControlAddress address(entry.device);
  if (::connect(daemon.socket.get(), address.get(), address.size()) != 0) return std::nullopt;

  // Anybody can take a free name: believe only the mount's owner and root.
  ucred who{};
  socklen_t length = sizeof(who);
  if (::getsockopt(daemon.socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return std::nullopt;
  if (who.uid != 0 && std::to_string(who.uid) != entry.owner) return std::nullopt;
  daemon.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, who.pid, 0)));
  return daemon;
}

bool readable_within(int descriptor, int limit_ms) {
  pollfd waiting{descriptor, POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, limit_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// Shows how far the daemon has come, by what it says is left.
class Storing {
 public:
  explicit Storing(std::string what) : what_(std::move(what)) { waiting_.emplace(what_); }

  void left(std::uint64_t bytes) {
    if (!progress_ && bytes == 0) return;
    if (!progress_) {
      waiting_.reset();
      total_ = bytes;
      progress_.emplace(total_);
    }
    progress_->reached(total_ - std::min(total_, bytes));
  }

 private:
  std::string what_;
  std::uint64_t total_ = 0;
  std::optional<Waiting> waiting_;
  std::optional<Progress> progress_;
};

// Everything the daemon says until it exits, but for how much is left.
std::string listen_to_the_end(int socket, Storing& storing) {
  constexpr std::string_view left = control_words::left;
  std::string said;
  std::string line;
  std::array<char, 512> part;
  for (;;) {
    const ssize_t got = ::read(socket, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return said + line;
    for (const char letter : std::string_view(part.data(), static_cast<std::size_t>(got))) {
      line += letter;
      if (letter != '\n') continue;
      if (line.starts_with(left)) {
        storing.left(std::strtoull(line.c_str() + left.size(), nullptr, 10));
      } else {
        said += line;
      }
      line.clear();
    }
  }
}

// Nothing where the mount lives on elsewhere.
std::optional<std::string> result_of(const MountEntry& entry, const Daemon& daemon) {
  Storing storing("storing " + entry.source);
  if (!readable_within(daemon.socket.get(), ending_wait_ms)) {
    return std::nullopt;
  }
  const std::string said = listen_to_the_end(daemon.socket.get(), storing);
  if (daemon.process.valid()) readable_within(daemon.process.get(), exit_wait_ms);
  return said.substr(std::min(said.size(), std::strlen(control_words::ending) + 1));
}

int wait_for_daemon(const MountEntry& entry, const Daemon& daemon) {
  const std::optional<std::string> told = result_of(entry, daemon);
  if (!told) {
    complain(entry.mountpoint + ": unmounted here, but a bind mount or another mount namespace keeps " + entry.source +
             " in use");
    return exit_failure;
  }
  const std::string& result = *told;
  if (result == std::string(control_words::stored) + "\n") return exit_success;
  if (result.starts_with(control_words::failed) && result.ends_with('\n')) {
    complain(result.substr(std::strlen(control_words::failed), result.find('\n') - std::strlen(control_words::failed)));
  } else {
    complain(entry.source + ": the daemon died before everything was stored; check the image with qemu-img check");
  }
  return exit_failure;
}

// No list of programs has the loop devices.
std::string by_whom(const std::string& mountpoint) {
  std::string devices;
  for (const std::string& device : loop_devices_over(mountpoint)) devices += (devices.empty() ? "" : " ") + device;
  if (devices.empty()) return "(fuser -vm " + mountpoint + " shows by whom)";
  return "by " + devices + " (unmount what is mounted from it, then: losetup -d " + devices + ")";
}

// A mount that nobody answers for: its daemon died, or it lives where we cannot hear it.
int unmount_unheard(const MountEntry& entry) {
  const bool dead = daemon_died(entry.mountpoint);
  const UnmountResult result = unmount(entry.mountpoint, dead ? Unmount::detach : Unmount::when_idle);
  if (result.outcome == UnmountResult::busy) {
    complain(entry.mountpoint + ": still in use " + by_whom(entry.mountpoint));
    return exit_failure;
  }
  if (result.outcome == UnmountResult::failed) {
    complain(entry.mountpoint + ": cannot unmount: " + result.reason);
    return exit_failure;
  }
  if (dead) {
    complain(entry.mountpoint + ": unmounted; its daemon had died, and what it had not stored is lost");
    return exit_success;
  }
  complain(entry.mountpoint + ": unmounted, but its daemon cannot be asked whether everything is stored");
  return exit_failure;
}

int unmount_and_wait(const std::string& path) {
  const std::string mountpoint = canonical_mountpoint(path);
  const std::optional<MountEntry> entry = find_mount(mountpoint);
  if (!entry) {
    complain(mountpoint + ": nothing is mounted here");
    return exit_failure;
  }
  const std::optional<Daemon> daemon = ask_daemon(*entry);
  if (!daemon && entry->type != "fuse.qcowfs") {
    complain(mountpoint + ": not a mount of qcowfs but of type " + entry->type);
    return exit_failure;
  }
  if (!daemon) return unmount_unheard(*entry);

  std::optional<Waiting> waiting(std::in_place,
                                 "unmounting " + mountpoint);  // what the kernel has gathered comes first
  const UnmountResult result = unmount(mountpoint, Unmount::when_idle);
  waiting.reset();
  if (result.outcome == UnmountResult::done) return wait_for_daemon(*entry, *daemon);
  if (result.outcome == UnmountResult::busy) {
    complain(mountpoint + ": still in use " + by_whom(mountpoint));
  } else {
    complain(mountpoint + ": cannot unmount: " + result.reason);
  }
  return exit_failure;
}

}  // namespace

int run_umount(const UmountOptions& options) {
  try {
    return unmount_and_wait(options.mountpoint);
  } catch (const core::Error& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
