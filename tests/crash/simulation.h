// One seed from beginning to end.
#pragma once

#include "tests/crash/judge.h"
#include "tests/crash/profile.h"

namespace crash {

/// Lets a guest live on a fresh image as the seed says, judging every interval. Adds to the tally; returns the trace
/// of the history, which is the same for the same seed.
std::uint64_t simulate(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally);

struct SecondLife {
  bool only_open = false;  ///< nothing is written
  bool details = false;    ///< for a replay
};

/// After the power cut: the image must open for writing without repair and serve; then the power fails again.
/// Returns what is wrong, or nothing.
std::string live_again(const CrashState& state, const Walk& walk, const Profile& profile, std::uint64_t seed,
                       FragmentDecoder& decoder, const SecondLife& life);

}  // namespace crash
