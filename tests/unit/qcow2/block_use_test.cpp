// Claim   What is dead, and the first place that has room, is what a list of fragments says.
// Method  Random fragments come and go; a plain array of counts tells what is right.
#include "qcow2/host/block_use.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "core/alignment.h"

namespace {

using qcow2::BlockUse;
using qcow2::Geometry;
using qcow2::HostCluster;
using qcow2::HostExtent;
using qcow2::HostOffset;

constexpr std::uint64_t block = 4096;

class Fragments {
 public:
  Fragments(unsigned cluster_bits, std::uint64_t clusters)
      : geometry_{cluster_bits, 4}, use_(geometry_, block), counts_(clusters * per_cluster()) {}

  std::uint64_t per_cluster() const { return geometry_.cluster_size() / block; }

  void step(std::mt19937& random) {
    const std::uint64_t end = counts_.size() * block;
    if (fragments_.size() == counts_.size() || (random() % 5 < 2 && !fragments_.empty())) {
      auto victim = fragments_.begin();
      std::advance(victim, random() % fragments_.size());
      use_.remove(*victim);
      count(*victim, -1);
      fragments_.erase(victim);
      return;
    }
    const std::uint64_t length = 1 + random() % (random() % 2 == 0 ? 600 : geometry_.cluster_size());
    const HostExtent fragment{HostOffset{random() % (end - length)}, length};
    use_.add(fragment);
    count(fragment, 1);
    fragments_.push_back(fragment);
  }

  void check(std::mt19937& random) const {
    std::uint64_t dead = 0;
    std::vector<HostExtent> runs;
    for (std::uint64_t first = 0; first < counts_.size(); first += per_cluster()) {
      for (std::uint64_t i = first; has_fragments(first) && i < first + per_cluster(); ++i) {
        if (counts_[i] != 0) continue;
        ++dead;
        const bool goes_on =
            i != first && !runs.empty() && runs.back().at + runs.back().length == HostOffset{i * block};
        if (!goes_on) runs.push_back({HostOffset{i * block}, 0});
        runs.back().length += block;
      }
    }
    ASSERT_EQ(use_.dead_bytes(), dead * block);
    std::vector<HostExtent> told;
    for (HostCluster cluster{0}; cluster < use_.end(); cluster = cluster + 1) {
      for (const HostExtent& run : use_.dead_runs(cluster)) told.push_back(run);
    }
    ASSERT_EQ(told, runs);
    const std::uint64_t wanted = 1 + random() % geometry_.cluster_size();
    const auto fits = [wanted](const HostExtent& run) { return run.length >= wanted; };
    const auto first = std::find_if(runs.begin(), runs.end(), fits);
    const auto found = use_.find_run(wanted);
    ASSERT_EQ(found.has_value(), first != runs.end());
    if (found) {
      ASSERT_EQ(*found, *first);
    }
  }

 private:
  bool has_fragments(std::uint64_t first) const {
    const auto begin = counts_.begin() + static_cast<std::ptrdiff_t>(first);
    return std::any_of(begin, begin + static_cast<std::ptrdiff_t>(per_cluster()), [](int count) { return count != 0; });
  }
  void count(const HostExtent& fragment, int by) {
    const std::uint64_t last = (fragment.at.value + fragment.length - 1) / block;
    for (std::uint64_t i = fragment.at.value / block; i <= last; ++i) counts_[i] += by;
  }

  Geometry geometry_;
  BlockUse use_;
  std::vector<int> counts_;
  std::vector<HostExtent> fragments_;
};

class BlockUseTest : public testing::TestWithParam<unsigned> {};

TEST_P(BlockUseTest, KnowsWhatIsDead) {
  std::mt19937 random(GetParam());
  for (const std::uint64_t clusters : {3u, 70u, 300u}) {
    Fragments fragments(GetParam(), clusters);
    for (int turn = 0; turn < 1500; ++turn) {
      fragments.step(random);
      if (turn % 7 == 0) fragments.check(random);
      if (HasFatalFailure()) FAIL() << "turn " << turn;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Clusters, BlockUseTest, testing::Values(13u, 14u, 16u, 21u));

TEST(BlockUse, SmallClustersAreNotTracked) {
  BlockUse use(Geometry{12, 4}, block);
  use.add({HostOffset{0}, 100});
  use.remove({HostOffset{0}, 100});
  EXPECT_EQ(use.dead_bytes(), 0u);
  EXPECT_FALSE(use.find_run(1));
  EXPECT_EQ(use.end(), HostCluster{0});
}

TEST(BlockUse, WhatHasDiedTakesSpaceUntilItIsGivenBack) {
  BlockUse use(Geometry{16, 4}, block);
  const HostExtent first{HostOffset{65536}, 8192};
  const HostExtent second{HostOffset{3 * 65536}, 8192};
  for (const HostExtent& fragment : {first, second}) {
    use.add(fragment);
    use.add({fragment.at + fragment.length, 100});
  }
  EXPECT_FALSE(use.next_backed({0}));  // nobody knows of what was never written
  use.remove(first);
  use.remove(second);
  EXPECT_EQ(use.next_backed({0}), HostCluster{1});
  EXPECT_EQ(use.next_backed({2}), HostCluster{3});
  use.given_back({1});
  EXPECT_EQ(use.next_backed({0}), HostCluster{3});
  use.freed({3});
  EXPECT_FALSE(use.next_backed({0}));
  use.backed({1});
  EXPECT_EQ(use.next_backed({0}), HostCluster{1});
}

TEST(BlockUse, KnowsAboutHowMuchOfWhatIsTouchedLives) {
  BlockUse use(Geometry{16, 4}, block);
  constexpr std::uint64_t length = 3000;
  std::vector<HostExtent> fragments;
  for (std::uint64_t at = 65536; at + length <= 40 * 65536; at += length) fragments.push_back({HostOffset{at}, length});
  for (const HostExtent& fragment : fragments) use.add(fragment);
  for (std::size_t i = 0; i < fragments.size(); i += 2) use.remove(fragments[i]);
  std::uint64_t live = 0;
  for (HostCluster cluster{0}; cluster < use.end(); cluster = cluster + 1) live += use.touched(cluster).live;
  EXPECT_NEAR(static_cast<double>(live), static_cast<double>(use.touched().live), 0.1 * static_cast<double>(live));
  const auto stored = static_cast<double>(fragments.size() / 2 * length);
  EXPECT_NEAR(static_cast<double>(use.touched().live), stored, 0.02 * stored);
  EXPECT_EQ(use.touched().bytes + use.dead_bytes(), core::align_up(39 * 65536, block));
  use.freed({1});
  EXPECT_EQ(use.touched({1}).bytes, 0u);
}

TEST(BlockUse, StoredToTheByteAndNamedBySectorsIsTheSame) {
  BlockUse use(Geometry{16, 4}, block);
  constexpr std::uint64_t length = 700;
  constexpr std::uint64_t count = 100;
  for (std::uint64_t i = 0; i < count; ++i) use.add({HostOffset{65536 + i * length}, length});
  const std::uint64_t live = use.touched().live;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const HostOffset at{65536 + i % count * length};
    const std::uint64_t end = core::align_up(at.value + length, qcow2::sector_size);
    use.remove({at, end - at.value});
    use.add({at, length});
  }
  EXPECT_EQ(use.touched().live, live);
}

TEST(BlockUse, TakesLessThanAByteForEachFourKibibytesOfTheFile) {
  for (const unsigned bits : {13u, 16u, 21u}) {
    BlockUse use(Geometry{bits, 4}, block);
    constexpr std::uint64_t length = 4ull << 30;
    for (std::uint64_t at = 0; at < length; at += 5 << 20) use.add({HostOffset{at}, 100});
    EXPECT_LT(use.memory(), length / block) << bits;
  }
}

TEST(BlockUse, WhatWasNeverTouchedCostsNothingWhenItIsFree) {
  BlockUse use(Geometry{16, 4}, block);
  use.add({HostOffset{1ull << 33}, 100});
  const std::uint64_t before = use.memory();
  for (HostCluster cluster{0}; cluster < HostCluster{1 << 17}; cluster = cluster + 1) use.freed(cluster);
  EXPECT_EQ(use.memory(), before);
}

TEST(BlockUse, AFragmentThatWasNeverAddedCostsNothingWhereverItLies) {
  BlockUse use(Geometry{16, 4}, block);
  use.remove({HostOffset{(1ull << 54) + 5}, 70000});  // memory for all before it: there is none
  use.add({HostOffset{65536}, 100});
  use.remove({HostOffset{1ull << 54}, 100});
  EXPECT_EQ(use.dead_bytes(), 65536u - block);
  use.add({HostOffset{9 * 65536}, 100});
  const std::uint64_t live = use.touched().live;
  use.remove({HostOffset{4 * 65536}, 200});  // between two that were: nor does it change what is known of them
  EXPECT_EQ(use.touched().live, live);
}

TEST(BlockUse, ACrowdedBlockIsTouchedUntilItsClusterIsFree) {
  BlockUse use(Geometry{16, 4}, block);
  for (int i = 0; i < 20; ++i) use.add({HostOffset{65536}, 100});
  use.add({HostOffset{65536 + 8192}, 100});
  for (int i = 0; i < 20; ++i) use.remove({HostOffset{65536}, 100});
  EXPECT_EQ(use.find_run(1), (HostExtent{HostOffset{65536 + 4096}, 4096}));
  use.freed({1});
  EXPECT_EQ(use.dead_bytes(), 0u);
  use.add({HostOffset{65536 + 8192}, 100});
  EXPECT_EQ(use.find_run(1), (HostExtent{HostOffset{65536}, 8192}));
}

}  // namespace
