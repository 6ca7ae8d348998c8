#include "qcow2/format/table_entries.h"

#include <gtest/gtest.h>

#include <random>

namespace qcow2 {
namespace {

constexpr std::uint32_t version = 3;

// What the specification says of one subcluster, a bit at a time.
Shows shown(L2Entry entry, unsigned subcluster) {
  if ((entry.subclusters >> subcluster & 1) != 0) return Shows::data;
  return (entry.subclusters >> (32 + subcluster) & 1) != 0 ? Shows::zeros : Shows::below;
}

L2Entry extended_entry(std::uint64_t at, std::uint32_t allocated, std::uint32_t zero) {
  return {at == 0 ? 0 : at | entry_copied, std::uint64_t{zero} << 32 | allocated};
}

class Extended : public testing::Test {
 protected:
  Geometry geometry{16, 4, true};
  Placement decode(L2Entry entry) const { return decode_l2_entry(entry, geometry, version); }
};

TEST_F(Extended, TablesHoldHalfAsManyEntries) {
  EXPECT_EQ(geometry.l2_entries(), 4096u);
  EXPECT_EQ(geometry.bytes_per_l2_table(), 256u << 20);
  EXPECT_EQ(geometry.subcluster_size(), 2048u);
  EXPECT_EQ((Geometry{16, 4}.l2_entries()), 8192u);
}

TEST_F(Extended, EveryByteShowsWhatItsSubclusterSays) {
  std::mt19937 random(1);
  for (int turn = 0; turn < 2000; ++turn) {
    const std::uint32_t patterns[] = {0, ~0u, static_cast<std::uint32_t>(random()),
                                      static_cast<std::uint32_t>(random() & random() & random())};
    const std::uint32_t allocated = patterns[random() % 4];
    const std::uint32_t zero = patterns[random() % 4] & ~allocated;
    const std::uint64_t at = allocated != 0 || random() % 2 == 0 ? geometry.cluster_size() * (1 + random() % 1000) : 0;
    const L2Entry entry = extended_entry(at, allocated, zero);
    const Placement placement = decode(entry);
    ASSERT_EQ(clusters_referenced(placement, geometry).count, at == 0 ? 0u : 1u);
    std::uint64_t within = 0;
    while (within < geometry.cluster_size()) {
      const ClusterPart part = part_at(placement, within, geometry);
      ASSERT_GT(part.end, within);
      for (; within < part.end; within += 512) {
        const auto subcluster = static_cast<unsigned>(within / geometry.subcluster_size());
        ASSERT_EQ(part.what, shown(entry, subcluster)) << std::hex << entry.subclusters << " at " << within;
        ASSERT_EQ(part_at(placement, within, geometry).end, part.end);
      }
    }
    ASSERT_EQ(within, geometry.cluster_size());
  }
}

TEST_F(Extended, WhatIsAlikeThroughoutIsWhatStandardEntriesKnow) {
  EXPECT_TRUE(std::holds_alternative<Unallocated>(decode({})));
  EXPECT_TRUE(std::holds_alternative<ZeroCluster>(decode(encode_zero_entry(geometry))));
  const Placement whole = decode(encode_standard_entry(HostOffset{0x50000}, geometry));
  ASSERT_TRUE(std::holds_alternative<StandardCluster>(whole));
  EXPECT_EQ(std::get<StandardCluster>(whole).at, HostOffset{0x50000});
  EXPECT_TRUE(std::get<StandardCluster>(whole).sole);
  const L2Entry compressed = encode_compressed_entry({HostOffset{0x50123}, 700}, geometry);
  EXPECT_EQ(compressed.subclusters, 0u);
  EXPECT_TRUE(std::holds_alternative<CompressedCluster>(decode(compressed)));
  EXPECT_TRUE(std::holds_alternative<MixedCluster>(decode(extended_entry(0x50000, 0, 0))));
}

TEST_F(Extended, ContradictionsAreRefused) {
  EXPECT_THROW(decode(extended_entry(0x50000, 6, 4)), core::Error);
  EXPECT_THROW(decode(extended_entry(0, 1, 0)), core::Error);
  EXPECT_THROW(decode(extended_entry(0x50200, 1, 0)), core::Error);
}

TEST_F(Extended, EntriesAreStoredAsTwoWords) {
  std::vector<std::byte> table(64, std::byte{0xaa});
  store_l2_entry(table, 2, {0x0102030405060708, 0x1112131415161718}, geometry);
  EXPECT_EQ(load_l2_entry(table, 2, geometry), (L2Entry{0x0102030405060708, 0x1112131415161718}));
  EXPECT_EQ(table[31], std::byte{0xaa});
  EXPECT_EQ(table[32], std::byte{1});
  EXPECT_EQ(table[47], std::byte{0x18});
  EXPECT_EQ(table[48], std::byte{0xaa});
  const Geometry standard{16, 4};
  store_l2_entry(table, 2, {0x2122232425262728, 0}, standard);
  EXPECT_EQ(load_l2_entry(table, 2, standard), (L2Entry{0x2122232425262728, 0}));
  EXPECT_EQ(table[24], std::byte{0xaa});
}

TEST(Standard, AClusterShowsOneThing) {
  const Geometry geometry{12, 4};
  for (const L2Entry entry : {L2Entry{}, encode_zero_entry(geometry), encode_standard_entry(HostOffset{4096}, geometry),
                              encode_compressed_entry({HostOffset{5000}, 77}, geometry)}) {
    const ClusterPart part = part_at(decode_l2_entry(entry, geometry, version), 100, geometry);
    EXPECT_EQ(part.end, 4096u);
    const bool nothing = entry == L2Entry{};
    EXPECT_EQ(part.what, nothing ? Shows::below : entry == encode_zero_entry(geometry) ? Shows::zeros : Shows::data);
  }
}

}  // namespace
}  // namespace qcow2
