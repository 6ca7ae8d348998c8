#include "fuse/daemon.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fuse/options.h"
#include "fuse/service_manager.h"
#include "fuse/waiting.h"

namespace fuse {
namespace {

void leave_directory() {
  if (::chdir("/") != 0) return;  // cannot fail; and if it did, a busy directory is all the harm
}

void leave_terminal(int null) {
  ::setsid();
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
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
  const bool in_background = parent_.valid();
  if (in_background) leave_directory();
  if (when_live_) when_live_();
  live_ = true;
  tell_service_manager_ready();
  if (!in_background) return;
  leave_terminal(null_.get());
  null_.reset();
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
  startup.null_.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
  return body(startup);
}

int run_in_foreground(const std::function<int(Startup&)>& body) {
  Startup startup;
  return body(startup);
}

}  // namespace fuse
