// What a mount has done so far, by kinds of requests.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "fuse/latency_histogram.h"

namespace fuse {

/// The requests whose answer takes a while.
enum class RequestKind { read, write, flush, zero, change, seek };
inline constexpr std::size_t request_kinds = 6;

/// What the kernel calls it.
constexpr std::string_view name_of(RequestKind kind) {
  constexpr std::array<std::string_view, request_kinds> names = {"read",      "write",   "fsync",
                                                                 "fallocate", "setattr", "lseek"};
  return names[static_cast<std::size_t>(kind)];
}

/// Threads    The engine's.
class Statistics {
 public:
  using Clock = std::chrono::steady_clock;
  struct Requests {
    std::uint64_t errors = 0;  ///< what went wrong here, not what was asked wrongly
    std::uint64_t bytes = 0;   ///< of the successful ones; of reads and writes only
    LatencyHistogram latency;
  };

  Requests& of(RequestKind kind) { return requests_[static_cast<std::size_t>(kind)]; }
  const Requests& of(RequestKind kind) const { return requests_[static_cast<std::size_t>(kind)]; }
  std::chrono::duration<double> uptime() const { return Clock::now() - started_; }

 private:
  std::array<Requests, request_kinds> requests_;
  Clock::time_point started_ = Clock::now();
};

}  // namespace fuse
