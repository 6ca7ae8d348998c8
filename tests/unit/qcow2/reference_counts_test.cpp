// Claims   ReferenceCounts counts like a map from cluster to number, with an upper bound, at every width.
#include "qcow2/offline/reference_counts.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace qcow2 {
namespace {

TEST(ReferenceCounts, AgreeWithAMap) {
  constexpr std::uint64_t clusters = 100'000;
  ReferenceCounts counts(clusters, ~0ull);
  std::map<std::uint64_t, std::uint64_t> model;
  std::mt19937_64 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t cluster = random() % 8 == 0 ? random() % clusters : random() % 50;
    EXPECT_TRUE(counts.add({cluster}));
    ++model[cluster];
  }
  for (std::uint64_t cluster = 0; cluster < clusters; ++cluster) {
    const auto known = model.find(cluster);
    ASSERT_EQ(counts.get({cluster}), known == model.end() ? 0 : known->second) << cluster;
  }
}

TEST(ReferenceCounts, AgreeWithAMapWhereverTheyLie) {
  constexpr std::uint64_t clusters = 1 << 22;
  std::mt19937_64 random(9);
  for (const std::uint64_t spread : {std::uint64_t{1} << 9, std::uint64_t{1} << 14, std::uint64_t{1} << 18, clusters}) {
    ReferenceCounts counts(clusters, ~0ull);
    std::map<std::uint64_t, std::uint64_t> model;
    for (int i = 0; i < 30'000; ++i) {
      const std::uint64_t cluster = random() % spread;
      const std::uint64_t times = random() % 50 == 0 ? 70'000 : 1;
      ASSERT_EQ(counts.add({cluster}, times), times);
      model[cluster] += times;
    }
    HostCluster at = counts.next_candidate({0});
    for (const auto& [cluster, count] : model) {
      while (at.value < cluster) {
        ASSERT_EQ(counts.get(at), 0u);
        at = counts.next_candidate(at + 1);
      }
      ASSERT_EQ(at.value, cluster);
      ASSERT_EQ(counts.get(at), count);
      at = counts.next_candidate(at + 1);
    }
  }
}

TEST(ReferenceCounts, StopAtTheWidthOfTheImage) {
  for (const std::uint64_t count_max : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{255}, std::uint64_t{65534},
                                        std::uint64_t{65535}, std::uint64_t{65536}, std::uint64_t{70'000}}) {
    ReferenceCounts counts(10, count_max);
    for (std::uint64_t i = 0; i < count_max; ++i) ASSERT_TRUE(counts.add({3})) << count_max;
    EXPECT_EQ(counts.get({3}), count_max);
    EXPECT_FALSE(counts.add({3}));
    EXPECT_FALSE(counts.add({3}));
    EXPECT_EQ(counts.get({3}), count_max);
    EXPECT_EQ(counts.get({2}), 0u);
  }
}

TEST(ReferenceCounts, AreExtendedByAClusterBeyondTheEnd) {
  ReferenceCounts counts(0, ~0ull);
  EXPECT_EQ(counts.clusters(), 0u);
  EXPECT_EQ(counts.get({12345}), 0u);
  EXPECT_TRUE(counts.add({12345}));
  EXPECT_EQ(counts.clusters(), 12346u);
  EXPECT_EQ(counts.get({12345}), 1u);
}

TEST(ReferenceCounts, CandidatesLeaveNoCountedClusterOut) {
  constexpr std::uint64_t clusters = 1 << 20;
  ReferenceCounts counts(clusters, ~0ull);
  EXPECT_EQ(counts.next_candidate({0}).value, clusters);
  const std::uint64_t counted[] = {17, 70'000, 70'001, 500'000, clusters - 1};
  for (const std::uint64_t cluster : counted) counts.add({cluster});
  std::vector<std::uint64_t> found;
  std::uint64_t steps = 0;
  for (HostCluster at = counts.next_candidate({0}); at.value < clusters; at = counts.next_candidate(at + 1)) {
    ++steps;
    if (counts.get(at) != 0) found.push_back(at.value);
  }
  EXPECT_EQ(found, std::vector<std::uint64_t>(std::begin(counted), std::end(counted)));
  EXPECT_LT(steps, clusters / 4) << "what was never counted is passed over";
}

}  // namespace
}  // namespace qcow2
