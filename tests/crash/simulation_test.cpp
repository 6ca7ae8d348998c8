// Claim   One seed is one history.
#include "tests/crash/simulation.h"

#include <gtest/gtest.h>

namespace {

TEST(CrashSimulation, TheSameSeedGivesTheSameHistory) {
  crash::Options options;
  options.states_per_interval = 12;
  for (const std::uint64_t seed : {1, 2, 3, 5}) {
    crash::FragmentDecoder decoder;
    crash::Tally first;
    crash::Tally second;
    const std::uint64_t trace = crash::simulate(seed, options, decoder, first);
    EXPECT_EQ(trace, crash::simulate(seed, options, decoder, second)) << "seed " << seed;
    EXPECT_EQ(first.states, second.states) << "seed " << seed;
    EXPECT_EQ(first.distinct, second.distinct) << "seed " << seed;
    EXPECT_NE(trace, crash::simulate(seed + 100, options, decoder, second));
  }
}

}  // namespace
