// The compressed write cache against its contract, row by row. Failures and random histories have files of
// their own.
#include <gtest/gtest.h>

#include "tests/unit/qcow2/compressed_write_cache_bench.h"

namespace qcow2::cache_test {
namespace {

// ---- writing into the cache, and reading it back

TEST(CompressedWriteCache, AFragmentIsReadableAtOnceWithoutTheFile) {
  Bench bench;
  bench.write(1000, 700);
  EXPECT_EQ(bench.read(1000, 700), sample(1000, 700));
  EXPECT_EQ(bench.read(1100, 5), sample(1100, 5));
  EXPECT_TRUE(bench.file.operations().empty());
  EXPECT_EQ(bench.cache.active_clusters(), 1u);
}

TEST(CompressedWriteCache, WhatWasGivenIsCopied) {
  Bench bench;
  const auto owner = std::make_shared<Bytes>(sample(0, 100));
  test::run(bench.engine, bench.cache.write({0}, {owner, *owner}));
  std::fill(owner->begin(), owner->end(), std::byte{0});
  EXPECT_EQ(bench.read(0, 100), sample(0, 100));
}

TEST(CompressedWriteCache, AnEmptyFragmentIsNothing) {
  Bench bench;
  bench.write(5, 0);
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, AFragmentAcrossABorderBecomesTwoExtents) {
  Bench bench;
  bench.write(4000, 200);
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
  EXPECT_TRUE(bench.cache.holds({4000}, 200));
  EXPECT_EQ(bench.read(4000, 200), sample(4000, 200));
  bench.cache.skip_to({0}, {4000});
  bench.engine.settle();
  ASSERT_EQ(bench.writes().size(), 1u) << "the first half fills its cluster; the second must not go with it";
  EXPECT_EQ(bench.writes()[0].at, 3584u);
  EXPECT_EQ(bench.writes()[0].end(), 4096u);
  EXPECT_EQ(bench.cache.active_clusters(), 1u);
  EXPECT_EQ(bench.read(4000, 200), sample(4000, 200));
}

TEST(CompressedWriteCache, AFragmentThatEndsAtTheBorderStaysInItsCluster) {
  Bench bench;
  bench.write(0, 3000);
  bench.write(3000, 1096);
  EXPECT_EQ(bench.cache.known_clusters(), 0u) << "full, so written and gone; and the next one is not there";
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].length, cluster);
}

TEST(CompressedWriteCache, OneByteFragmentsFillAClusterThatIsWrittenOnce) {
  Bench bench;
  for (std::uint64_t at = 0; at < cluster; ++at) bench.write(at, 1);
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
}

TEST(CompressedWriteCache, AClusterMayBeASingleBlock) {
  Bench bench({.cluster_size = block});
  bench.write(100, block);
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
  bench.flush();
  EXPECT_EQ(bench.read(100, block), sample(100, block));
  bench.write(0, 100);
  bench.write(100 + block, block - 100);
  EXPECT_EQ(bench.file.content(0, 2 * block), sample(0, 2 * block));
  EXPECT_EQ(bench.reads(), 1u) << "only that of the test";
}

TEST(CompressedWriteCache, FragmentsMayArriveInAnyOrder) {
  Bench bench;
  bench.write(2000, 2096);
  bench.write(1000, 1000);
  EXPECT_TRUE(bench.writes().empty());
  bench.write(0, 1000);
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
  EXPECT_EQ(bench.writes().size(), 1u);
}

TEST(CompressedWriteCache, ReadsMixTheCacheAndTheFile) {
  Bench bench;
  bench.write(4000, 200);
  bench.write(5000, 100);
  bench.cache.skip_to({0}, {4000});  // sends the first half away
  bench.engine.settle();
  const std::size_t reads_before = bench.reads();
  EXPECT_EQ(bench.read(4000, 200), sample(4000, 200));
  ASSERT_EQ(bench.reads(), reads_before + 1);
  EXPECT_EQ(bench.file.operations(Kind::read).back().length, 96u) << "only what the cache lacks";
  Bytes expected = sample(4000, 200);
  const Bytes gap = zeros(800);
  const Bytes behind = sample(5000, 100);
  expected.insert(expected.end(), gap.begin(), gap.end());
  expected.insert(expected.end(), behind.begin(), behind.end());
  EXPECT_EQ(bench.read(4000, 1100), expected);
}

TEST(CompressedWriteCache, ReadsBeyondTheEndOfTheFileAreZero) {
  Bench bench;
  bench.write(4000, 100);
  Bytes expected = sample(4000, 100);
  expected.resize(3 * cluster);
  EXPECT_EQ(bench.read(4000, 3 * cluster), expected);
  EXPECT_EQ(bench.file.size(), 0u);
}

TEST(CompressedWriteCache, NeighbouringMissingPartsAreReadByOneRequest) {
  Bench bench;
  bench.file.set_content(0, sample(0, 4 * cluster));
  EXPECT_EQ(bench.read(100, 3 * cluster), sample(100, 3 * cluster));
  EXPECT_EQ(bench.reads(), 1u);
}

TEST(CompressedWriteCache, CachedBytesAreCopiedBeforeAReadSuspends) {
  Bench bench;
  bench.write(0, 100);
  bench.file.hold(Kind::read);
  Bytes target(200);
  const auto reading = test::start(bench.engine, bench.cache.read({0}, target));
  bench.cache.set_cluster_end({100});
  bench.start_discard(0).get();
  EXPECT_FALSE(reading.done());
  bench.file.release(Kind::read);
  reading.get();
  target.resize(100);
  EXPECT_EQ(target, sample(0, 100));
}

TEST(CompressedWriteCache, HoldsOnlyWhatIsThereToTheLastByte) {
  Bench bench;
  bench.write(4000, 200);
  EXPECT_TRUE(bench.cache.holds({4000}, 200));
  EXPECT_TRUE(bench.cache.holds({4100}, 0));
  EXPECT_FALSE(bench.cache.holds({3999}, 200));
  EXPECT_FALSE(bench.cache.holds({4000}, 201));
  EXPECT_FALSE(bench.cache.holds({9000}, 1));
  bench.flush();
  EXPECT_FALSE(bench.cache.holds({4000}, 200)) << "in the file now";
}

// ---- full and ended clusters

TEST(CompressedWriteCache, AFullClusterIsWrittenAtOnceByOneAlignedWrite) {
  Bench bench;
  bench.file.hold(Kind::write);
  for (const std::uint64_t at : {0, 1000, 2000}) bench.write(at, 1000);
  EXPECT_EQ(bench.file.held(Kind::write), 0u);
  bench.write(3000, 1096);
  ASSERT_EQ(bench.file.held(Kind::write), 1u);
  EXPECT_EQ(bench.writes()[0].at, 0u);
  EXPECT_EQ(bench.writes()[0].length, cluster);
  EXPECT_TRUE(bench.writes()[0].aligned);
  EXPECT_EQ(bench.read(0, cluster), sample(0, cluster)) << "while it is on its way too";
  bench.release();
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, AnUnfinishedClusterIsNotWrittenByItself) {
  Bench bench;
  bench.write(0, cluster - 1);
  EXPECT_TRUE(bench.writes().empty());
}

TEST(CompressedWriteCache, AnEndedClusterIsWrittenAtOncePaddedToTheBlock) {
  Bench bench;
  bench.file.set_content(0, Bytes(cluster, std::byte{0xAA}));
  bench.write(0, 600);
  bench.cache.set_cluster_end({600});
  bench.engine.settle();
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].length, 2 * block);
  EXPECT_EQ(bench.file.content(0, 600), sample(0, 600));
  EXPECT_EQ(bench.file.content(600, 2 * block - 600), zeros(2 * block - 600));
  EXPECT_EQ(bench.file.content(2 * block, 1)[0], std::byte{0xAA});
  EXPECT_EQ(bench.reads(), 0u);
  EXPECT_EQ(bench.cache.known_clusters(), 0u) << "it has left the cache";
}

TEST(CompressedWriteCache, AnEndAtABlockBorderNeedsNoPadding) {
  Bench bench;
  bench.write(0, block);
  bench.cache.set_cluster_end({block});
  bench.engine.settle();
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].length, block);
}

TEST(CompressedWriteCache, AnEndAtTheBorderOfAFullClusterIsNothing) {
  Bench bench;
  bench.write(0, cluster);
  bench.cache.set_cluster_end({cluster});
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, AnEndMayOvertakeTheLastWrite) {
  Bench bench;
  bench.write(0, 100);
  bench.cache.set_cluster_end({200});
  bench.engine.settle();
  EXPECT_EQ(bench.writes().size(), 1u);
  bench.write(100, 100);
  bench.engine.settle();
  EXPECT_EQ(bench.file.content(0, 200), sample(0, 200));
  EXPECT_EQ(bench.reads(), 0u);
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, AnEndMayOvertakeAWriteThatWaitsForRoom) {
  Bench bench({.clusters = 1});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  const auto waiting = bench.start_write(cluster, 100);
  EXPECT_FALSE(waiting.done());
  bench.cache.set_cluster_end({cluster + 100});
  bench.release();
  waiting.get();
  EXPECT_EQ(bench.file.content(cluster, 100), sample(cluster, 100));
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, SkippedBytesCountAsWritten) {
  Bench bench;
  bench.write(0, 1000);
  bench.cache.skip_to({1000}, {4000});
  EXPECT_TRUE(bench.writes().empty());
  bench.write(4000, 96);
  bench.engine.settle();
  ASSERT_EQ(bench.writes().size(), 2u) << "its first blocks and its last; none that nobody wrote";
  EXPECT_EQ(bench.writes()[0].length, 2 * block);
  EXPECT_EQ(bench.writes()[1].at, 3584u);
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, ASkipMayCrossBorders) {
  Bench bench;
  bench.write(0, 1000);
  bench.cache.skip_to({1000}, {2 * cluster + 512});
  bench.engine.settle();
  EXPECT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.cache.known_clusters(), 1u) << "that in which the owner goes on";
  bench.write(2 * cluster + 512, cluster - 512);
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

// ---- beside a flight, and after a flush in the midst of a cluster

TEST(CompressedWriteCache, FlushPadsUnfinishedClustersAndNeverReads) {
  Bench bench;
  bench.file.set_content(0, Bytes(4 * cluster, std::byte{0xAA}));
  bench.write(0, 100);
  bench.write(2 * cluster + 700, 100);
  bench.flush();
  ASSERT_EQ(bench.writes().size(), 2u);
  for (const Operation& write : bench.writes()) {
    EXPECT_TRUE(write.aligned);
    EXPECT_EQ(write.length, block);
  }
  EXPECT_EQ(bench.file.content(100, block - 100), zeros(block - 100));
  EXPECT_EQ(bench.reads(), 0u);
  EXPECT_EQ(bench.cache.active_clusters(), 0u);
}

TEST(CompressedWriteCache, BytesInABlockAlreadyWrittenMeetTheOthersInMemory) {
  Bench bench;
  bench.write(0, 100);
  bench.flush();
  bench.file.set_content(0, Bytes(block, std::byte{0xAA}));  // would show in a read-modify-write
  bench.write(100, 100);
  bench.write(300, 100);
  bench.flush();
  bench.write(200, 100);
  bench.flush();
  EXPECT_EQ(bench.file.content(0, 400), sample(0, 400));
  EXPECT_EQ(bench.file.content(400, block - 400), zeros(block - 400));
  EXPECT_EQ(bench.reads(), 0u);
}

TEST(CompressedWriteCache, ABlockBeforeAFreshOneIsNeverWrittenAgain) {
  Bench bench({.cluster_size = 64 * kib});
  for (std::uint64_t commit = 0; commit < 16; ++commit) {
    const std::uint64_t at = commit * 4096;
    bench.write(at, 700);
    bench.cache.skip_to({at + 700}, {at + 4096});
    bench.flush();
    ASSERT_EQ(bench.writes().size(), commit + 1);
    EXPECT_EQ(bench.writes().back().at, at);
    EXPECT_EQ(bench.writes().back().length, 2 * block);
  }
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, BytesBesideAFlightWaitUnlessTheirBlockIsFresh) {
  Bench bench;
  bench.write(0, 100);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  const auto same_block = bench.start_write(100, 100);
  const auto half_in_it = bench.start_write(300, 600);
  const auto fresh_block = bench.start_write(1024, 100);
  EXPECT_FALSE(same_block.done());
  EXPECT_FALSE(half_in_it.done());
  EXPECT_TRUE(fresh_block.done());
  EXPECT_EQ(bench.read(1024, 100), sample(1024, 100));
  bench.release();
  flushing.get();
  same_block.get();
  half_in_it.get();
  bench.flush();
  EXPECT_EQ(bench.file.content(0, 200), sample(0, 200));
  EXPECT_EQ(bench.file.content(300, 600), sample(300, 600));
  EXPECT_EQ(bench.file.content(1024, 100), sample(1024, 100));
  EXPECT_EQ(bench.reads(), 0u);
}

TEST(CompressedWriteCache, AClusterThatFillsDuringItsFlightGoesAgainAfterIt) {
  Bench bench;
  bench.write(0, block);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  bench.write(block, cluster - block);
  EXPECT_EQ(bench.file.held(Kind::write), 1u);
  bench.release_one();
  flushing.get();
  EXPECT_EQ(bench.file.held(Kind::write), 1u);
  bench.release();
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

// ---- flush

TEST(CompressedWriteCache, FlushDoesNotWaitForWhatIsWrittenLater) {
  Bench bench;
  bench.write(0, 100);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  for (std::uint64_t at = 512; at < cluster - block; at += block) bench.write(at, 100);
  bench.write(cluster, cluster);
  EXPECT_FALSE(flushing.done());
  bench.release_one();
  EXPECT_TRUE(flushing.done());
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
}

TEST(CompressedWriteCache, FlushWaitsForWhatIsOnItsWayAndForWhatCameBesideIt) {
  Bench bench;
  bench.write(0, 100);
  bench.file.hold(Kind::write);
  const auto first = bench.start_flush();
  bench.write(512, 100);
  const auto second = bench.start_flush();
  bench.release_one();
  EXPECT_TRUE(first.done());
  EXPECT_FALSE(second.done());
  bench.release_one();
  EXPECT_TRUE(second.done());
  EXPECT_EQ(bench.file.content(512, 100), sample(512, 100));
}

TEST(CompressedWriteCache, FlushOfNothingIsNothing) {
  Bench bench;
  bench.flush();
  bench.write(0, 100);
  bench.flush();
  bench.flush();
  EXPECT_EQ(bench.writes().size(), 1u);
}

TEST(CompressedWriteCache, AtMostAFewWritesAreInFlight) {
  Bench bench({.clusters = 64});
  for (std::uint64_t i = 0; i < 32; ++i) bench.write(2 * i * cluster, 100);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  EXPECT_EQ(bench.file.held(Kind::write), bench.file.depth());
  bench.release_one();
  EXPECT_EQ(bench.file.held(Kind::write), bench.file.depth());
  bench.release();
  flushing.get();
  EXPECT_EQ(bench.file.running_writes_max(), bench.file.depth());
}

TEST(CompressedWriteCache, AdjacentClustersBecomeOneWriteOfAMegabyte) {
  constexpr std::uint64_t size = 64 * kib;
  Bench bench({.cluster_size = size, .clusters = 64});
  bench.occupy_all_flights(size);
  for (const std::uint64_t index : {3, 2, 4, 1, 0}) bench.write(index * size, size);
  for (std::uint64_t index = 5; index < 20; ++index) bench.write(index * size, size);
  bench.write(30 * size, size);
  bench.release();
  std::vector<Operation> writes = bench.writes();
  writes.erase(writes.begin(), writes.begin() + bench.file.depth());
  ASSERT_EQ(writes.size(), 3u);
  EXPECT_EQ(writes[0].at, 0u);
  EXPECT_EQ(writes[0].length, 1024 * kib);
  EXPECT_EQ(writes[0].pieces, 16u);
  EXPECT_EQ(writes[1].at, 16 * size);
  EXPECT_EQ(writes[1].length, 4 * size);
  EXPECT_EQ(writes[2].at, 30 * size);
  EXPECT_EQ(bench.file.content(0, 20 * size), sample(0, 20 * size));
}

TEST(CompressedWriteCache, FullClustersWaitForEachOtherAndGoAsOneWrite) {
  Bench bench({.clusters = 16, .gathered = 4});
  for (std::uint64_t index = 0; index < 3; ++index) bench.write(index * cluster, cluster);
  EXPECT_TRUE(bench.writes().empty());
  EXPECT_EQ(bench.read(0, 3 * cluster), sample(0, 3 * cluster));
  EXPECT_EQ(bench.reads(), 0u);
  bench.write(3 * cluster, cluster);
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].length, 4 * cluster);
  bench.write(4 * cluster, cluster);
  EXPECT_EQ(bench.writes().size(), 1u) << "the next one waits again";
}

TEST(CompressedWriteCache, AFlushWaitsForNoCompany) {
  Bench bench({.clusters = 16, .gathered = 4});
  bench.write(0, cluster);
  bench.flush();
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
  bench.write(cluster, cluster);
  EXPECT_EQ(bench.writes().size(), 1u) << "after it, gathering goes on";
}

TEST(CompressedWriteCache, NothingWaitsForCompanyWhereRoomIsScarce) {
  Bench bench({.clusters = 4, .gathered = 16});
  bench.write(0, cluster);
  bench.write(cluster, cluster);
  EXPECT_TRUE(bench.writes().empty());
  bench.write(2 * cluster, cluster);
  EXPECT_EQ(bench.writes().size(), 1u) << "half of the cache is in use";
}

TEST(CompressedWriteCache, ADiscardedClusterIsNoCompany) {
  Bench bench({.clusters = 16, .gathered = 2});
  bench.write(0, cluster);
  bench.start_discard(0).get();
  bench.write(cluster, cluster);
  EXPECT_TRUE(bench.writes().empty());
  bench.write(2 * cluster, cluster);
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].at, cluster);
  EXPECT_EQ(bench.writes()[0].length, 2 * cluster);
}

TEST(CompressedWriteCache, PartialNeighboursJoinOnlyWhereTheirBytesMeet) {
  Bench bench;
  bench.write(4000, 200);              // 0 and 1 meet at the border
  bench.write(2 * cluster + 600, 10);  // 1 and 2 do not
  bench.write(6 * cluster, cluster - block);
  bench.write(5 * cluster, 10);  // neither do 5 and 6
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  ASSERT_EQ(bench.file.held(Kind::write), 4u) << "what is not one write goes side by side";
  EXPECT_EQ(bench.writes()[0].at, 3584u);
  EXPECT_EQ(bench.writes()[0].length, 2 * block);
  EXPECT_EQ(bench.writes()[1].at, 2 * cluster + block);
  EXPECT_EQ(bench.writes()[2].at, 6 * cluster);
  EXPECT_EQ(bench.writes()[3].at, 5 * cluster);
}

TEST(CompressedWriteCache, AClusterLargerThanOneWriteGoesWhole) {
  constexpr std::uint64_t size = 2048 * kib;
  Bench bench({.cluster_size = size, .clusters = 2});
  bench.write(0, size);
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].length, size);
}

// ---- room

TEST(CompressedWriteCache, AWriteWaitsWhileTheCacheIsFull) {
  Bench bench({.clusters = 2});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  bench.write(cluster, cluster);
  const auto waiting = bench.start_write(5 * cluster, 10);
  EXPECT_FALSE(waiting.done());
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
  bench.release_one();
  EXPECT_TRUE(waiting.done());
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
}

TEST(CompressedWriteCache, WaitersAreLetInOneByOneAndInOrder) {
  Bench bench({.clusters = 1});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  std::vector<test::Started<void>> waiting;
  for (std::uint64_t index = 1; index <= 5; ++index) waiting.push_back(bench.start_write(index * cluster, cluster));
  for (std::size_t served = 0; served <= waiting.size(); ++served) {
    for (std::size_t i = 0; i < waiting.size(); ++i) EXPECT_EQ(waiting[i].done(), i < served);
    EXPECT_EQ(bench.cache.active_clusters(), 1u);
    bench.release_one();
  }
}

TEST(CompressedWriteCache, AWriteToAClusterThatIsThereNeedsNoRoom) {
  Bench bench({.clusters = 2});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  bench.write(cluster, 100);
  const auto waiting = bench.start_write(2 * cluster, 10);
  EXPECT_TRUE(bench.start_write(cluster + 100, 10).done());
  EXPECT_FALSE(waiting.done());
}

TEST(CompressedWriteCache, TheOldestUnfinishedClusterMakesRoom) {
  Bench bench({.clusters = 2});
  bench.write(0, 100);
  bench.write(cluster, 100);
  bench.write(2 * cluster, 100);
  ASSERT_EQ(bench.writes().size(), 1u);
  EXPECT_EQ(bench.writes()[0].at, 0u);
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
}

TEST(CompressedWriteCache, TwoOpenClustersGetByInTheRoomOfOne) {
  Bench bench({.clusters = 1});
  for (std::uint64_t at = 0; at < cluster; at += 64) {
    bench.write(at, 64);
    bench.write(9 * cluster + at, 64);
    EXPECT_LE(bench.cache.active_clusters(), 1u);
  }
  bench.flush();
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
  EXPECT_EQ(bench.file.content(9 * cluster, cluster), sample(9 * cluster, cluster));
  EXPECT_EQ(bench.reads(), 0u);
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, AFragmentAcrossABorderPassesThroughTheRoomOfOne) {
  Bench bench({.clusters = 1});
  bench.write(4000, 4096);
  bench.flush();
  EXPECT_EQ(bench.read(4000, 4096), sample(4000, 4096));
}

TEST(CompressedWriteCache, ThereIsAlwaysRoomForOneCluster) {
  Bench bench({.clusters = 0});
  bench.write(0, 100);
  EXPECT_EQ(bench.cache.active_clusters(), 1u);
  bench.cache.set_size(0);
  EXPECT_EQ(bench.cache.active_clusters(), 1u);
}

TEST(CompressedWriteCache, ASmallerSizeDrainsClusterByCluster) {
  Bench bench({.clusters = 6});
  for (std::uint64_t i = 0; i < 6; ++i) bench.write(2 * i * cluster, 100);
  bench.file.hold(Kind::write);
  bench.cache.set_size(2 * cluster);
  for (std::uint64_t active = 6; active > 2; --active) {
    bench.engine.settle();
    EXPECT_EQ(bench.cache.active_clusters(), active);
    EXPECT_EQ(bench.file.held(Kind::write), 1u);
    bench.release_one();
  }
  EXPECT_EQ(bench.cache.active_clusters(), 2u);
  EXPECT_EQ(bench.file.held(Kind::write), 0u);
  EXPECT_EQ(bench.writes().back().at, 6 * cluster) << "the oldest went first";
}

TEST(CompressedWriteCache, ALargerSizeLetsWaitersIn) {
  Bench bench({.clusters = 1});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  const auto first = bench.start_write(cluster, 10);
  const auto second = bench.start_write(2 * cluster, 10);
  bench.cache.set_size(2 * cluster);
  bench.engine.settle();
  EXPECT_TRUE(first.done());
  EXPECT_FALSE(second.done());
}

core::Awaitable<void> grow_and_write(CompressedWriteCache& cache, std::uint64_t size, HostOffset at) {
  cache.set_size(size);
  const core::SharedBytes bytes = shared(sample(at.value, 10));
  co_await cache.write(at, bytes);
}

TEST(CompressedWriteCache, ANewcomerDoesNotOvertakeAWaiter) {
  Bench bench({.clusters = 1});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  const auto waiting = bench.start_write(cluster, 10);
  const HostOffset at{2 * cluster};
  const auto newcomer = test::start(bench.engine, grow_and_write(bench.cache, 2 * cluster, at));
  EXPECT_TRUE(waiting.done());
  EXPECT_FALSE(newcomer.done());
}

// ---- discard

TEST(CompressedWriteCache, DiscardDropsUnwrittenBytes) {
  Bench bench;
  bench.write(0, 100);
  bench.start_discard(50).get();
  EXPECT_EQ(bench.cache.active_clusters(), 0u);
  EXPECT_FALSE(bench.cache.holds({0}, 1));
  bench.flush();
  EXPECT_TRUE(bench.writes().empty());
}

TEST(CompressedWriteCache, DiscardOfWhatIsNotThereIsNothing) {
  Bench bench;
  EXPECT_TRUE(bench.start_discard(12345).done());
}

TEST(CompressedWriteCache, DiscardWaitsForTheFlight) {
  Bench bench;
  bench.write(0, 100);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  bench.write(512, 100);
  const auto first = bench.start_discard(0);
  const auto second = bench.start_discard(0);
  EXPECT_FALSE(first.done());
  EXPECT_FALSE(second.done());
  bench.release();
  flushing.get();
  first.get();
  second.get();
  bench.flush();
  EXPECT_EQ(bench.writes().size(), 1u) << "what was not on its way is never written";
}

TEST(CompressedWriteCache, DiscardMakesRoom) {
  Bench bench({.clusters = 2});
  bench.file.hold(Kind::write);
  bench.write(0, cluster);
  bench.write(cluster, 100);
  const auto waiting = bench.start_write(2 * cluster, 10);
  EXPECT_FALSE(waiting.done());
  bench.start_discard(cluster).get();
  EXPECT_TRUE(waiting.done());
}

TEST(CompressedWriteCache, AFlushDoesNotWaitForWhatWasDiscarded) {
  Bench bench({.clusters = 16});
  bench.write(0, 100);
  bench.occupy_all_flights();
  const auto flushing = bench.start_flush();
  bench.start_discard(0).get();
  bench.release();
  EXPECT_TRUE(flushing.done());
  EXPECT_EQ(bench.writes().size(), bench.file.depth());
}

TEST(CompressedWriteCache, ADiscardedClusterMayBeFilledAnew) {
  Bench bench;
  bench.write(0, 100);
  bench.flush();
  bench.cache.set_cluster_end({200});
  bench.start_discard(0).get();
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
  bench.write(0, cluster);
  EXPECT_EQ(bench.file.content(0, cluster), sample(0, cluster));
}

TEST(CompressedWriteCache, TheOwnerOfAnOpenClusterGoesOnAfterADiscard) {
  Bench bench;
  bench.write(0, 100);
  bench.start_discard(0).get();
  bench.write(100, cluster - 100);
  EXPECT_EQ(bench.file.content(0, 100), zeros(100));
  EXPECT_EQ(bench.file.content(100, cluster - 100), sample(100, cluster - 100));
  EXPECT_EQ(bench.cache.known_clusters(), 0u) << "full, though its first bytes were dropped";
}

}  // namespace
}  // namespace qcow2::cache_test
