#include "fuse/waiting.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>

namespace fuse {
namespace {

constexpr std::chrono::seconds redraw_every(1);
constexpr const char* clear_line = "\r\033[K";

}  // namespace

Waiting::Waiting(std::string what) : what_(std::move(what)) {
  if (::isatty(STDERR_FILENO) != 1) return;
  // Signals are for the thread that works.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { draw_until_done(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Waiting::~Waiting() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

void Waiting::draw_until_done() {
  std::unique_lock lock(mutex_);
  for (unsigned seconds = 1; !ended_.wait_for(lock, redraw_every, [this] { return done_; }); ++seconds) {
    std::fprintf(stderr, "%s%s ... %u s", clear_line, what_.c_str(), seconds);
    std::fflush(stderr);
  }
  std::fputs(clear_line, stderr);
}

}  // namespace fuse
