#include "fuse/announcement.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/error.h"
#include "fuse/options.h"

namespace fuse {
namespace {

void require_pipe(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) core::fail_errno(errno, "-o notify_pipe=" + path);
  if (!S_ISFIFO(facts.st_mode)) {
    core::fail(core::Errc::bad_argument, "-o notify_pipe=" + path + ": not a FIFO; make one with mkfifo");
  }
  if (::access(path.c_str(), W_OK) != 0) core::fail_errno(errno, "-o notify_pipe=" + path);
}

void require_writable(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) return;
  core::fail(core::Errc::bad_argument, "-o ready_fd=" + std::to_string(descriptor) +
                                           ": not a descriptor that is open for writing; whoever starts qcowfs must "
                                           "pass it on");
}

// Whoever listens may have gone: that is no reason not to mount.
void write_line(int descriptor, const std::string& line) {
  while (::write(descriptor, line.data(), line.size()) < 0 && errno == EINTR) continue;
}

}  // namespace

Announcement::Announcement(std::string pipe, std::optional<int> descriptor)
    : pipe_(std::move(pipe)), descriptor_(descriptor) {
  if (!pipe_.empty()) require_pipe(pipe_);
  if (!descriptor_) return;
  require_writable(*descriptor_);
  // Programs that we start must not keep it open.
  if (*descriptor_ > STDERR_FILENO) ::fcntl(*descriptor_, F_SETFD, FD_CLOEXEC);
}

void announce_refusal(const std::vector<std::string>& words, const std::string& reason) {
  MountOptions options;
  try {
    for (const std::string& list : words) {
      for (const std::string& word : split_options(list)) {
        if (word.starts_with("notify_pipe=") || word.starts_with("ready_fd=")) apply_mount_option(options, word);
      }
    }
    Announcement(options.notify_pipe, options.ready_descriptor).failed(reason);
  } catch (const std::exception&) {
    return;  // nobody to tell: it stands on stderr
  }
}

void Announcement::prepare() {
  if (pipe_.empty()) return;
  read_already_.reset(::open(pipe_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!read_already_.valid()) unread_.reset(::open(pipe_.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

void Announcement::tell(const std::string& line) {
  if (descriptor_) {
    write_line(*descriptor_, line);
    if (*descriptor_ > STDERR_FILENO) ::close(*descriptor_);
    descriptor_.reset();
  }
  if (!read_already_.valid() && !unread_.valid()) prepare();
  if (unread_.valid()) write_line(unread_.get(), line);
  if (read_already_.valid()) write_line(read_already_.get(), line);
  read_already_.reset();  // who reads it reads its end
}

}  // namespace fuse
