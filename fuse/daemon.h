// Into the background, but not before the mount is live: whoever started us waits until then.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "core/unique_fd.h"

namespace fuse {

/// What the serving process says once.
class Startup {
 public:
  /// The mount can be used. In the background: leaves the terminal and the current directory behind and lets
  /// the waiting parent go with status 0. Tells a service manager that asked (NOTIFY_SOCKET). Opens nothing.
  /// Throws what the action of when_live() throws; it is not live then.
  void live();
  bool is_live() const { return live_; }
  /// What live() shall do before anybody is told, while descriptors are still those of the start.
  void when_live(std::function<void()> action) { when_live_ = std::move(action); }

 private:
  friend int run_in_background(const std::function<int(Startup&)>& body, const std::string& what);

  core::UniqueFd parent_;  ///< a byte on it lets the parent go
  core::UniqueFd null_;    ///< /dev/null, in the background
  bool live_ = false;
  std::function<void()> when_live_;
};

/// Forks: must be called before there is a second thread. Returns twice: in the parent 0 once body called
/// live(), or body's status if it ended before; in the child body's status.
/// `what` is being done meanwhile, as Waiting has it.
int run_in_background(const std::function<int(Startup&)>& body, const std::string& what);

int run_in_foreground(const std::function<int(Startup&)>& body);

}  // namespace fuse
