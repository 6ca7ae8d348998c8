// What is said of many times must be true of the times themselves, within a sixteenth.
#include "fuse/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace {

using fuse::LatencyHistogram;
using std::chrono::nanoseconds;

TEST(LatencyHistogram, NothingTakesNoTime) { EXPECT_EQ(LatencyHistogram().quantile(0.5), nanoseconds(0)); }

TEST(LatencyHistogram, AQuantileIsNeverTooShortAndLittleTooLong) {
  std::mt19937_64 random(1);
  for (const unsigned bits : {3u, 5u, 12u, 30u, 41u}) {
    LatencyHistogram histogram;
    std::vector<std::int64_t> times;
    for (int count = 0; count < 5000; ++count) {
      times.push_back(static_cast<std::int64_t>(random() >> (64 - bits + random() % 3)));
      histogram.add(nanoseconds(times.back()));
    }
    std::sort(times.begin(), times.end());
    for (const double part : {0.001, 0.5, 0.99, 0.999, 1.0}) {
      const auto place = static_cast<std::size_t>(part * 5000 + 0.5) - 1;
      const std::int64_t said = histogram.quantile(part).count();
      EXPECT_GE(said, times[place]) << bits << " bits, " << part;
      EXPECT_LE(said, times[place] + times[place] / 16) << bits << " bits, " << part;
    }
  }
}

TEST(LatencyHistogram, TimesBeyondTheLastPlaceAreCountedThere) {
  LatencyHistogram histogram;
  for (const std::int64_t time : {std::int64_t{-5}, std::int64_t{0}, std::int64_t{1} << 50, INT64_MAX}) {
    histogram.add(nanoseconds(time));
  }
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_EQ(histogram.quantile(0.5), nanoseconds(0));
  EXPECT_EQ(histogram.quantile(1), nanoseconds((std::int64_t{1} << 43) - 1));
}

}  // namespace
