// Claim   What an image's tables say of its clusters is known as far as it is asked for, and of none beyond.
// Method  Tables in a file in memory.
#include "qcow2/flow/survey.h"

#include <gtest/gtest.h>

#include "core/big_endian.h"
#include "qcow2/format/table_entries.h"
#include "tests/support/open_image.h"

namespace {

using qcow2::BlockUse;
using qcow2::HostCluster;
using qcow2::HostExtent;
using qcow2::HostOffset;

constexpr std::uint64_t cluster = 65536;
constexpr std::uint64_t block = 4096;
constexpr HostOffset table_at{cluster};

class Survey : public testing::Test {
 protected:
  void fragment(std::uint64_t at, std::uint64_t length) {
    const std::uint64_t more_sectors = (at % qcow2::sector_size + length - 1) / qcow2::sector_size;
    add(qcow2::l2_entry_compressed | more_sectors << geometry.compressed_size_shift() | at);
  }
  void standard(HostCluster at) { add(qcow2::entry_copied | geometry.start_of(at).value); }

  void look(std::uint64_t file_size, std::uint64_t end) {
    file.set_content(table_at.value, table);
    test::run(engine, file.truncate(file_size));
    const std::vector<HostOffset> tables{HostOffset{0}, table_at};
    test::run(engine, qcow2::survey(file, tables, geometry, end, use));
  }
  std::uint64_t dead_blocks(std::uint64_t index) const { return use.dead_bytes(HostCluster{index}) / block; }

  test::TestEngine engine;
  test::ScriptedFile file{engine};
  qcow2::Geometry geometry{16, 4};
  BlockUse use{geometry, block};

 private:
  void add(std::uint64_t entry) { core::store_big_endian(core::MutableBytes(table), 8 * entries++, entry); }

  std::vector<std::byte> table = std::vector<std::byte>(cluster);
  std::size_t entries = 0;
};

TEST_F(Survey, KnowsEveryFragment) {
  fragment(2 * cluster, 5000);
  fragment(2 * cluster + 20000, 100);
  fragment(4 * cluster - 100, 200);  // of the third cluster and the fourth
  look(10 * cluster, 10 * cluster);
  EXPECT_EQ(dead_blocks(1), 0u) << "a table";
  EXPECT_EQ(dead_blocks(2), 16u - 3);
  EXPECT_EQ(dead_blocks(3), 16u - 1);
  EXPECT_EQ(dead_blocks(4), 16u - 1);
  EXPECT_EQ(dead_blocks(5), 0u);
}

TEST_F(Survey, WhatIsNamedAsSomethingElseTooIsUntracked) {
  fragment(2 * cluster, 5000);
  standard(HostCluster{2});
  fragment(3 * cluster, 5000);
  look(10 * cluster, 10 * cluster);
  EXPECT_EQ(dead_blocks(2), 0u);
  EXPECT_EQ(dead_blocks(3), 14u);
}

TEST_F(Survey, NothingIsKnownOfWhatLiesBehindTheEnd) {
  constexpr std::uint64_t far = 1ull << 45;
  fragment(2 * cluster, 5000);
  fragment(5 * cluster - 100, 200);   // reaches behind
  fragment(5 * cluster + 8192, 200);  // in the same cluster as its end: that it is dead there must not be thought
  fragment(7 * cluster, 200);
  fragment(far, 200);
  standard(geometry.cluster_of(HostOffset{far}) + 1);
  look(far + 10 * cluster, 5 * cluster);
  EXPECT_EQ(dead_blocks(2), 14u);
  EXPECT_EQ(dead_blocks(4), 15u);
  for (const std::uint64_t index : {5u, 6u, 7u}) EXPECT_EQ(dead_blocks(index), 0u) << index;
  EXPECT_LT(use.memory(), 64u << 10);
  const HostExtent across{HostOffset{5 * cluster - 100}, 200};
  use.remove(across);
  EXPECT_EQ(dead_blocks(4), 0u) << "it had no other";
  EXPECT_EQ(dead_blocks(5), 0u);
}

TEST_F(Survey, AnEndBehindThatOfTheFileIsTheFiles) {
  fragment(2 * cluster, 5000);
  look(3 * cluster, 1ull << 50);
  EXPECT_EQ(dead_blocks(2), 14u);
}

}  // namespace
