// How far a long work has come, for a person at a terminal.
#pragma once

#include <chrono>
#include <cstdint>

namespace fuse {

/// One line on stderr, drawn anew as the work goes on and gone when it ends. Silent in the first second, and where
/// stderr is no terminal.
/// Threads    One at a time.
class Progress {
 public:
  /// `total` bytes; 0 where nobody knows yet.
  explicit Progress(std::uint64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// Everything before `position`, in bytes, is done or about to be.
  void reached(std::uint64_t position);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now);

  std::uint64_t total_;
  std::uint64_t position_ = 0;
  bool to_terminal_;
  bool drawn_ = false;
  Clock::time_point started_;
  Clock::time_point next_drawing_;
};

}  // namespace fuse
