// Claim   What is read again stays, a pass over everything drives it not out, and no bound is exceeded.
#include "qcow2/flow/decoded_cache.h"

#include <gtest/gtest.h>

#include <random>

namespace {

using qcow2::DecodedCache;
using qcow2::HostOffset;

constexpr std::uint64_t cluster = 1024;

core::SharedBytes content(std::uint64_t number) {
  const auto bytes = std::make_shared<core::Buffer>(cluster);
  std::fill_n(bytes->data(), cluster, static_cast<std::byte>(number * 37 + 1));
  return core::SharedBytes(bytes);
}

HostOffset place(std::uint64_t number) { return HostOffset{number * cluster}; }

bool holds(DecodedCache& cache, std::uint64_t number) {
  const core::SharedBytes found = cache.find(place(number));
  if (found.size() == 0) return false;
  EXPECT_EQ(found.bytes[0], content(number).bytes[0]) << number;
  return true;
}

void use(DecodedCache& cache, std::uint64_t number) {
  if (!holds(cache, number)) cache.insert(place(number), content(number));
}

TEST(DecodedCache, APassOverTheDiskDrivesNothingOutThatIsReadAgain) {
  DecodedCache cache(20 * cluster);
  for (int turn = 0; turn < 2; ++turn) {
    for (std::uint64_t number = 0; number < 10; ++number) use(cache, number);
  }
  for (std::uint64_t number = 100; number < 1000; ++number) use(cache, number);
  for (std::uint64_t number = 0; number < 10; ++number) EXPECT_TRUE(holds(cache, number)) << number;
}

TEST(DecodedCache, WhatComesBackSoonStays) {
  DecodedCache cache(10 * cluster);
  for (std::uint64_t number = 0; number < 12; ++number) use(cache, number);
  ASSERT_FALSE(holds(cache, 0));
  use(cache, 0);  // now in the main queue
  for (std::uint64_t number = 100; number < 200; ++number) use(cache, number);
  EXPECT_TRUE(holds(cache, 0));
  EXPECT_FALSE(holds(cache, 100));
}

TEST(DecodedCache, WhatIsNoLongerReadMakesRoom) {
  DecodedCache cache(10 * cluster);
  for (std::uint64_t number = 0; number < 30; ++number) {
    for (int turn = 0; turn < 5; ++turn) use(cache, number);
  }
  EXPECT_FALSE(holds(cache, 0));
  EXPECT_TRUE(holds(cache, 29));
}

TEST(DecodedCache, ForgetsARangeAndNothingElse) {
  DecodedCache cache(10 * cluster);
  for (std::uint64_t number = 0; number < 8; ++number) use(cache, number);
  cache.forget({place(2), 3 * cluster});
  for (std::uint64_t number = 0; number < 8; ++number) EXPECT_EQ(holds(cache, number), number < 2 || number > 4);
  EXPECT_EQ(cache.bytes(), 5 * cluster);
}

TEST(DecodedCache, KeepsToALowerLimitAtOnceAndHoldsOneClusterAtLeast) {
  DecodedCache cache(10 * cluster);
  for (std::uint64_t number = 0; number < 10; ++number) use(cache, number);
  cache.limit(4 * cluster);
  EXPECT_EQ(cache.bytes(), 4 * cluster);
  cache.limit(0);
  EXPECT_EQ(cache.bytes(), cluster);
}

TEST(DecodedCache, RandomWorkKeepsTheBoundAndTheBytes) {
  std::mt19937 random(1);
  DecodedCache cache(16 * cluster);
  for (int step = 0; step < 100'000; ++step) {
    const std::uint64_t number = std::min(random() % 64, random() % 64);
    if (random() % 100 == 0) {
      cache.forget({place(number), (1 + random() % 8) * cluster});
      ASSERT_FALSE(holds(cache, number));
    } else if (random() % 1000 == 0) {
      cache.limit((1 + random() % 16) * cluster);
    } else {
      use(cache, number);
    }
    ASSERT_LE(cache.bytes(), 16 * cluster);
  }
}

}  // namespace
