// Whether anybody uses the disk, and since when nobody has.
#pragma once

#include <chrono>
#include <cstdint>

namespace fuse {

/// Looking at the disk's attributes (stat, df) is no use of it: programs that list mounts do so all day.
/// Threads    The engine's.
class Activity {
 public:
  using Clock = std::chrono::steady_clock;

  void asked() { last_ = Clock::now(); }
  void opened() {
    ++open_;
    asked();
  }
  void closed() {
    --open_;
    asked();
  }

  /// How long nothing has been open and nothing has been asked for.
  Clock::duration idle() const { return open_ == 0 ? Clock::now() - last_ : Clock::duration::zero(); }

 private:
  std::uint64_t open_ = 0;  ///< handles that the kernel has not released
  Clock::time_point last_ = Clock::now();
};

}  // namespace fuse
