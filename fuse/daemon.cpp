#include "fuse/daemon.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "fuse/options.h"
#include "fuse/waiting.h"

namespace fuse {
namespace {

void leave_terminal() {
  ::setsid();
  if (::chdir("/") != 0) return;  // cannot fail; and if it did, a busy directory is all the harm
  const core::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), standard);
}

// systemd's protocol for Type=notify: one datagram, to a path or to an abstract name written with an @.
void notify_service_manager() {
  const char* const target = std::getenv("NOTIFY_SOCKET");
  if (target == nullptr) return;
  const std::string_view name(target);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() > sizeof(address.sun_path)) return;
  std::copy(name.begin(), name.end(), address.sun_path);
  if (name.front() == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());

  const core::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view ready = "READY=1";
  // A manager that does not listen finds out by its own time limit.
  [[maybe_unused]] const ssize_t sent = ::sendto(socket.get(), ready.data(), ready.size(), MSG_NOSIGNAL,
                                                 reinterpret_cast<const sockaddr*>(&address), size);
}

int wait_for(pid_t child, int pipe) {
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(pipe, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return exit_success;

  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status)) return WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : exit_failure;
  std::fprintf(stderr, "qcowfs: died while mounting: %s\n", ::strsignal(WTERMSIG(status)));
  return exit_failure;
}

}  // namespace

void Startup::live() {
  live_ = true;
  if (when_live_) when_live_();
  notify_service_manager();
  if (!parent_.valid()) return;
  leave_terminal();
  [[maybe_unused]] const ssize_t told = ::write(parent_.get(), "", 1);  // a parent that was killed does not mind
  parent_.reset();
}

int run_in_background(const std::function<int(Startup&)>& body, const std::string& what) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::perror("qcowfs: cannot go into the background");
    return exit_failure;
  }
  core::UniqueFd reads(ends[0]);
  Startup startup;
  startup.parent_.reset(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("qcowfs: cannot go into the background");
    return exit_failure;
  }
  if (child > 0) {
    startup.parent_.reset();
    const Waiting waiting(what);
    return wait_for(child, reads.get());
  }
  reads.reset();
  return body(startup);
}

int run_in_foreground(const std::function<int(Startup&)>& body) {
  Startup startup;
  return body(startup);
}

}  // namespace fuse
