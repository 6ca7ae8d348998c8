// What the compressed write cache does when a write fails, and when it is stopped.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/qcow2/compressed_write_cache_bench.h"

namespace qcow2::cache_test {
namespace {

// ---- failures

TEST(CompressedWriteCache, AFailedWriteIsSticky) {
  Bench bench;
  bench.file.fail(Kind::write, 0, ENOSPC);
  bench.write(0, 100);
  EXPECT_EQ(error_of(bench.start_flush()), ENOSPC);
  EXPECT_EQ(error_of(bench.start_flush()), ENOSPC);
  EXPECT_EQ(error_of(bench.start_write(100, 100)), ENOSPC);
  EXPECT_EQ(error_of(bench.start_write(cluster, 100)), ENOSPC);
  EXPECT_EQ(error_of(test::start(bench.engine, bench.cache.stop())), ENOSPC);
  EXPECT_EQ(error_of(bench.start_write(2 * cluster, 100)), ENOSPC) << "nor does it fall through after stop";
  EXPECT_EQ(bench.writes().size(), 1u) << "nothing is tried again";
}

TEST(CompressedWriteCache, TheFirstOfSeveralErrorsIsTheOneReported) {
  Bench bench;
  bench.file.fail(Kind::write, 0, ENOSPC);
  bench.file.fail(Kind::write, 1, EIO);
  bench.write(0, 100);
  bench.write(5 * cluster, 100);
  EXPECT_EQ(error_of(bench.start_flush()), ENOSPC);
  EXPECT_EQ(error_of(bench.start_flush()), ENOSPC);
}

TEST(CompressedWriteCache, AFailureThatNobodyWaitedForIsReportedByTheNextFlush) {
  Bench bench;
  bench.file.fail(Kind::write, 0, EIO);
  bench.write(0, cluster);
  bench.engine.settle();
  EXPECT_EQ(error_of(bench.start_flush()), EIO);
}

TEST(CompressedWriteCache, EverybodyWhoWaitsIsToldOfAFailure) {
  Bench bench({.clusters = 2});
  bench.file.fail(Kind::write, 0, EIO);
  bench.write(0, 100);
  bench.write(cluster, 100);
  bench.file.hold(Kind::write);
  const auto flushing = bench.start_flush();
  const auto for_the_block = bench.start_write(100, 10);
  const auto for_room = bench.start_write(7 * cluster, 10);
  const auto behind_it = bench.start_write(8 * cluster, 10);
  const auto discarding = bench.start_discard(0);
  for (const auto* waiting : {&flushing, &for_the_block, &for_room, &behind_it, &discarding}) {
    EXPECT_FALSE(waiting->done());
  }
  bench.release();
  for (const auto* waiting : {&flushing, &for_the_block, &for_room, &behind_it}) EXPECT_EQ(error_of(*waiting), EIO);
  discarding.get();
}

TEST(CompressedWriteCache, BytesStayReadableAfterAFailedFlush) {
  Bench bench;
  bench.file.fail(Kind::write, 0, EIO, 100);  // half of it reached the disk
  bench.write(0, 3000);
  EXPECT_EQ(error_of(bench.start_flush()), EIO);
  EXPECT_TRUE(bench.cache.holds({0}, 3000));
  EXPECT_EQ(bench.read(0, 3000), sample(0, 3000));
  EXPECT_EQ(bench.reads(), 0u);
}

TEST(CompressedWriteCache, AFailedReadIsTheReadersAlone) {
  Bench bench;
  bench.file.fail(Kind::read, 0, EIO);
  bench.write(0, 100);
  Bytes target(200);
  EXPECT_EQ(error_of(test::start(bench.engine, bench.cache.read({0}, target))), EIO);
  bench.flush();
  EXPECT_EQ(bench.read(0, 100), sample(0, 100));
}

/// Writes until something throws; says what may be relied upon.
core::Awaitable<void> write_a_workload(CompressedWriteCache& cache, std::vector<HostExtent>& written,
                                       std::uint64_t& flushed) {
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const std::uint64_t length = 100 + i * 37 % 3000;
    const core::SharedBytes bytes = shared(sample(at, length));
    const HostExtent extent{{at}, length};
    co_await cache.write(extent.at, bytes);
    written.push_back(extent);
    at += length;
    if (i % 10 != 9) continue;
    co_await cache.flush();
    flushed = written.size();
    const std::uint64_t fresh = (at + 4095) / 4096 * 4096;
    cache.skip_to({at}, {fresh});
    at = fresh;
  }
  cache.set_cluster_end({at});
  co_await cache.stop();
}

TEST(CompressedWriteCache, AnErrorAtAnyWriteOfAWorkloadIsReportedAndTakesNothingAway) {
  std::size_t failing = 0;
  for (bool clean = false; !clean; ++failing) {
    ASSERT_LT(failing, 1000u);
    Bench bench({.clusters = 3});
    bench.file.fail(Kind::write, failing, EIO, failing % 3 * block);
    std::vector<HostExtent> written;
    std::uint64_t flushed = 0;
    const int error = error_of(test::start(bench.engine, write_a_workload(bench.cache, written, flushed)));
    clean = bench.writes().size() <= failing;
    EXPECT_EQ(error, clean ? 0 : EIO) << "write " << failing;
    EXPECT_EQ(error_of(bench.start_flush()), error);
    for (const auto& [at, length] : written) EXPECT_EQ(bench.read(at.value, length), sample(at.value, length));
    written.resize(flushed);
    for (const auto& [at, length] : written) {
      EXPECT_EQ(bench.file.content(at.value, length), sample(at.value, length)) << "write " << failing;
    }
    for (const Operation& write : bench.writes()) EXPECT_TRUE(write.aligned);
  }
  EXPECT_GT(failing, 10u);
}

// ---- stop

TEST(CompressedWriteCache, AfterStopWritesGoStraightToTheFile) {
  Bench bench;
  bench.write(0, 100);
  test::run(bench.engine, bench.cache.stop());
  EXPECT_EQ(bench.file.content(0, 100), sample(0, 100));
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
  bench.write(100, 5);
  bench.write(4090, 20);
  EXPECT_EQ(bench.file.content(0, 105), sample(0, 105));
  EXPECT_EQ(bench.file.content(4090, 20), sample(4090, 20));
  EXPECT_EQ(bench.read(4090, 20), sample(4090, 20));
  EXPECT_EQ(bench.cache.active_clusters(), 0u);
  bench.cache.set_cluster_end({4110});
  bench.cache.skip_to({4110}, {4608});
  bench.start_discard(0).get();
  bench.flush();
  test::run(bench.engine, bench.cache.stop());
  EXPECT_EQ(bench.cache.known_clusters(), 0u);
}

TEST(CompressedWriteCache, WritesDuringStopWaitForItsEnd) {
  Bench bench({.clusters = 1});
  bench.write(0, 100);
  bench.file.hold(Kind::write);
  const auto for_room = bench.start_write(cluster, 100);
  const auto stopping = test::start(bench.engine, bench.cache.stop());
  const auto same_block = bench.start_write(100, 100);
  EXPECT_FALSE(stopping.done());
  EXPECT_EQ(bench.file.held(Kind::write), 1u);
  bench.release();
  stopping.get();
  for_room.get();
  same_block.get();
  EXPECT_EQ(bench.file.content(0, 200), sample(0, 200));
  EXPECT_EQ(bench.file.content(cluster, 100), sample(cluster, 100));
}

TEST(CompressedWriteCache, StopWaitsForAllFlightsEvenAfterAFailure) {
  Bench bench;
  bench.file.fail(Kind::write, 0, EIO);
  bench.write(0, 100);
  bench.write(5 * cluster, 100);
  bench.file.hold(Kind::write);
  const auto stopping = test::start(bench.engine, bench.cache.stop());
  bench.release_one();
  EXPECT_FALSE(stopping.done());
  bench.release_one();
  EXPECT_EQ(error_of(stopping), EIO);
}

TEST(CompressedWriteCache, AFailureAfterStopIsStickyToo) {
  Bench bench;
  test::run(bench.engine, bench.cache.stop());
  bench.file.fail(Kind::write, 0, EIO);
  EXPECT_EQ(error_of(bench.start_write(0, 100)), EIO);
  EXPECT_EQ(error_of(bench.start_write(0, 100)), EIO);
  EXPECT_EQ(error_of(bench.start_flush()), EIO);
}

}  // namespace
}  // namespace qcow2::cache_test
