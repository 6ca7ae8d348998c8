// That something takes its time, for a person at a terminal, where nobody knows how long it will take.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace fuse {

/// While it lives, after a second: a line on stderr that says what is waited for and how long it has taken, drawn anew
/// each second and gone at the end. Nothing at all where stderr is no terminal. Has a thread of its own then: not to be
/// held across a fork, and not beside a Progress.
class Waiting {
 public:
  /// `what` as in "storing disk.qcow2".
  explicit Waiting(std::string what);
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting();

 private:
  void draw_until_done();

  std::string what_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace fuse
