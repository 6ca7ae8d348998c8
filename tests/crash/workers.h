// Seeds shared out among processes: a crash of one is a finding, not the end.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "tests/crash/judge.h"

namespace crash {

struct Work {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  unsigned jobs = 2;
  std::chrono::seconds duration{0};  ///< goes on with later seeds until it is over; 0: exactly `count` seeds
  bool until_violation = false;
};

struct Result {
  Tally tally;
  std::uint64_t seeds = 0;
};

/// Runs one seed, adding to the tally. Called in a worker process.
using OneSeed = std::function<void(std::uint64_t seed, Tally& tally)>;

Result share_out(const Work& work, const OneSeed& one_seed);

}  // namespace crash
