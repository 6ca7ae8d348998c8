// Claim   A refcount block moves without losing what is counted meanwhile, and gaps in the table cost nothing.
// Method  An empty image on a scripted file, which is opened anew to see what it holds.
#include "qcow2/host/refcounts.h"

#include <gtest/gtest.h>

#include "core/big_endian.h"
#include "qcow2/format/header.h"
#include "tests/support/open_image.h"

namespace {

using Kind = test::ScriptedFile::Kind;

struct Opened {
  Opened(test::TestEngine& engine, test::ScriptedFile& file)
      : header(qcow2::parse_header(file.content(0, first_bytes), "test")),
        sector(file, core::Buffer::zeroed(qcow2::sector_size)),
        refcounts(engine, file, sector, header.geometry, 1 << 20) {
    test::run(engine, refcounts.open(header.refcount_table, header.refcount_table_clusters));
  }

  static constexpr std::uint64_t first_bytes = 4096;
  qcow2::Header header;
  qcow2::HeaderSector sector;
  qcow2::Refcounts refcounts;
};

class MovedRefcountBlock : public testing::Test {
 protected:
  MovedRefcountBlock() : file(engine) {
    file.set_content(0, test::empty_image());
    file.set_content(file_size, test::Bytes(1));
    before.emplace(engine, file);
    test::run(engine, before->refcounts.raise({new_place, 1}));
  }

  std::uint64_t count_in_file(qcow2::HostCluster cluster) {
    Opened after(engine, file);
    return test::run(engine, after.refcounts.count(cluster));
  }

  static constexpr std::uint64_t file_size = 128 * test::OpenImage::cluster;
  static constexpr qcow2::HostCluster new_place{100};
  static constexpr qcow2::HostCluster taken{50};
  test::TestEngine engine;
  test::ScriptedFile file;
  std::optional<Opened> before;
};

TEST_F(MovedRefcountBlock, HoldsWhatIsCountedWhileItMoves) {
  file.hold(Kind::barrier);
  const qcow2::HostOffset place = before->header.geometry.start_of(new_place);
  const auto moving = test::start(engine, before->refcounts.move_block(0, place));
  ASSERT_EQ(file.held(Kind::barrier), 1u) << "its copy is on its way";
  test::run(engine, before->refcounts.raise({taken, 1}));
  file.release(Kind::barrier);
  moving.get();
  test::run(engine, before->refcounts.write_dirty());
  EXPECT_EQ(before->refcounts.blocks().front(), place);
  EXPECT_EQ(count_in_file(taken), 1u);
  EXPECT_EQ(count_in_file(new_place), 1u);
}

TEST_F(MovedRefcountBlock, LeavesItsOldPlaceToBeGivenUp) {
  const qcow2::HostOffset old_place = before->refcounts.blocks().front();
  test::run(engine, before->refcounts.move_block(0, before->header.geometry.start_of(new_place)));
  const std::vector<qcow2::HostClusters> superseded = before->refcounts.take_superseded();
  ASSERT_EQ(superseded.size(), 1u);
  EXPECT_EQ(superseded.front().first, before->header.geometry.cluster_of(old_place));
  EXPECT_EQ(count_in_file(superseded.front().first), 1u) << "until the next batch";
}

// Found by fuzzing: an image may say that its last host cluster lies two hundred million behind the one before.
TEST(GapInTheRefcountTable, IsPassedOverAtOnce) {
  test::TestEngine engine;
  test::ScriptedFile file(engine);
  file.set_content(0, test::empty_image());
  const qcow2::Header header = qcow2::parse_header(file.content(0, 4096), "test");
  const std::uint64_t cluster = header.geometry.cluster_size();
  const std::uint64_t blocks = cluster / 8;
  const std::uint64_t per_block = header.geometry.refcounts_per_block();
  test::Bytes entry(8);
  core::store_big_endian(core::MutableBytes(entry), 0, 60 * cluster);
  file.set_content(header.refcount_table.value + 8 * (blocks - 1), entry);
  const test::Bytes in_use(cluster, std::byte{1});
  file.set_content(Opened(engine, file).refcounts.blocks().front().value, in_use);
  file.set_content(60 * cluster, test::Bytes(cluster - 2, std::byte{1}));  // the last one is free

  Opened image(engine, file);
  const qcow2::HostCluster last{blocks * per_block - 1};
  const qcow2::HostCluster end = last + 1;
  ASSERT_EQ(image.refcounts.covered_end(), end);
  EXPECT_EQ(test::run(engine, image.refcounts.find_free(1, 1, qcow2::HostCluster{1}, {})), last);
  EXPECT_EQ(test::run(engine, image.refcounts.next_free_run(qcow2::HostCluster{1}, end)).first, last);
  EXPECT_EQ(test::run(engine, image.refcounts.count_free(qcow2::HostCluster{0}, end, 1)), 1u);
  EXPECT_EQ(test::run(engine, image.refcounts.end_of_use(end)), last);
  EXPECT_EQ(test::run(engine, image.refcounts.end_of_use(last)), last);
  EXPECT_EQ(image.refcounts.next_covered(qcow2::HostCluster{7}), qcow2::HostCluster{7});
  const qcow2::HostCluster within{5 * per_block};
  EXPECT_EQ(test::run(engine, image.refcounts.end_of_use(within)), qcow2::HostCluster{per_block});
  EXPECT_EQ(image.refcounts.next_covered(within), qcow2::HostCluster{(blocks - 1) * per_block});
  EXPECT_EQ(image.refcounts.next_covered(end + 5), end);
}

}  // namespace
