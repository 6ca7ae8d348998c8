// Claim   The disk forgets exactly what its fault model says, fails as ordered and sees what its callers may not do.
#include "tests/crash/simulated_disk.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>

#include "core/error.h"

namespace {

using crash::Image;
using crash::SimulatedDisk;

Image filled(std::size_t size, char value) { return Image(size, static_cast<std::byte>(value)); }

class SimulatedDiskTest : public testing::Test {
 protected:
  explicit SimulatedDiskTest(std::size_t block = 512) : disk(engine, block, block, filled(4096, 'o')) {}

  // Runs until nothing can happen; the error of the task, or 0.
  int run(core::Awaitable<void> task) {
    int error = -1;
    start(std::move(task), error);
    settle();
    return error;
  }
  void start(core::Awaitable<void> task, int& error) {
    boost::asio::co_spawn(engine.executor(), outcome(std::move(task), error), core::Supervised{"test"});
  }
  void settle() {
    while (engine.step()) {
    }
  }
  static core::Awaitable<void> outcome(core::Awaitable<void> task, int& error) {
    try {
      co_await std::move(task);
      error = 0;
    } catch (const core::Error& thrown) {
      error = thrown.code().value();
    }
  }
  core::Awaitable<void> writing(std::uint64_t at, const Image& bytes) {
    const core::Bytes source = bytes;
    co_await disk.write_at(core::FileOffset{at}, source);
  }
  int write(std::uint64_t at, const Image& bytes) { return run(writing(at, bytes)); }
  core::Awaitable<void> punching(std::uint64_t at, std::uint64_t length) {
    co_await disk.punch(core::FileOffset{at}, length);
  }
  int punch(std::uint64_t at, std::uint64_t length) { return run(punching(at, length)); }

  crash::SeededEngine engine{1};
  SimulatedDisk disk;
};

TEST_F(SimulatedDiskTest, WhatWasWrittenIsPendingUntilABarrier) {
  EXPECT_EQ(write(512, filled(1024, 'n')), 0);
  EXPECT_EQ(disk.content()[512], std::byte{'n'});
  {
    const crash::PendingState state = disk.pending();
    ASSERT_EQ(state.sectors.size(), 2u);
    EXPECT_EQ(state.sectors[0].at, 512u);
    EXPECT_EQ((*state.durable)[512], std::byte{'o'});
  }
  EXPECT_EQ(run(disk.barrier()), 0);
  const crash::PendingState state = disk.pending();
  EXPECT_TRUE(state.sectors.empty());
  EXPECT_EQ((*state.durable)[512], std::byte{'n'});
}

TEST_F(SimulatedDiskTest, EveryVersionOfASectorIsPossible) {
  EXPECT_EQ(write(0, filled(512, '1')), 0);
  EXPECT_EQ(write(0, filled(512, '2')), 0);
  const crash::PendingState state = disk.pending();
  ASSERT_EQ(state.sectors.size(), 1u);
  ASSERT_EQ(state.sectors[0].versions.size(), 2u);
  EXPECT_EQ(*state.sectors[0].versions[0], std::byte{'1'});
  EXPECT_EQ(*state.sectors[0].versions[1], std::byte{'2'});
}

TEST_F(SimulatedDiskTest, ABarrierCoversOnlyWhatCompletedBeforeItWasSubmitted) {
  const Image bytes = filled(512, 'n');
  int written = -1;
  int flushed = -1;
  start(writing(0, bytes), written);
  start(disk.barrier(), flushed);  // submitted while the write is in flight
  settle();
  EXPECT_EQ(written, 0);
  EXPECT_EQ(flushed, 0);
  EXPECT_EQ(disk.pending().sectors.size(), 1u);
}

TEST_F(SimulatedDiskTest, TheLengthIsPendingByItself) {
  EXPECT_EQ(write(4096, filled(512, 'n')), 0);
  EXPECT_EQ(write(8192, filled(512, 'n')), 0);
  EXPECT_EQ(disk.size(), 8704u);
  EXPECT_EQ(disk.pending().sizes, (std::vector<std::uint64_t>{4096, 4608, 8704}));
  EXPECT_EQ(run(disk.barrier()), 0);
  EXPECT_EQ(disk.pending().sizes, std::vector<std::uint64_t>{8704});
}

TEST_F(SimulatedDiskTest, AHoleIsPendingAndThenZeros) {
  EXPECT_EQ(punch(512, 1024), 0);
  ASSERT_EQ(disk.pending().holes.size(), 1u);
  EXPECT_EQ((*disk.pending().durable)[512], std::byte{'o'});
  EXPECT_EQ(run(disk.barrier()), 0);
  EXPECT_EQ((*disk.pending().durable)[512], std::byte{0});
  EXPECT_EQ((*disk.pending().durable)[1536], std::byte{'o'});
}

TEST_F(SimulatedDiskTest, WhatIsCutOffIsGoneAndWhatIsWrittenLaterIsNot) {
  EXPECT_EQ(write(4096, filled(512, '1')), 0);
  EXPECT_EQ(run(disk.truncate(512)), 0);
  EXPECT_EQ(write(1024, filled(512, '2')), 0);
  EXPECT_EQ(run(disk.barrier()), 0);
  const crash::PendingState state = disk.pending();
  EXPECT_EQ(state.sizes, std::vector<std::uint64_t>{1536});
  EXPECT_EQ((*state.durable)[0], std::byte{'o'});
  EXPECT_EQ((*state.durable)[512], std::byte{0});
  EXPECT_EQ((*state.durable)[1024], std::byte{'2'});
}

TEST_F(SimulatedDiskTest, FailsWhatItIsToldToFail) {
  disk.add_fault({SimulatedDisk::Kind::write, 1, EIO, false});
  EXPECT_EQ(write(0, filled(512, 'a')), 0);
  EXPECT_EQ(write(512, filled(512, 'b')), EIO);
  EXPECT_EQ(write(512, filled(512, 'c')), 0);
  disk.add_fault({SimulatedDisk::Kind::barrier, 0, EIO, true});
  EXPECT_EQ(run(disk.barrier()), EIO);
  EXPECT_EQ(run(disk.barrier()), EIO);
  EXPECT_EQ(disk.pending().sectors.size(), 2u) << "nothing became durable";
  disk.clear_faults();
  EXPECT_EQ(run(disk.barrier()), 0);
}

TEST_F(SimulatedDiskTest, HasNoMoreSpaceThanItsCapacity) {
  disk.set_capacity(5120);
  EXPECT_EQ(write(0, filled(512, 'a')), 0) << "takes no new space";
  EXPECT_EQ(write(4096, filled(1024, 'a')), 0);
  EXPECT_EQ(write(8192, filled(512, 'a')), ENOSPC);
  EXPECT_EQ(punch(0, 1024), 0);
  EXPECT_EQ(write(8192, filled(512, 'a')), 0);
}

TEST_F(SimulatedDiskTest, SeesWritesThatOverlapInFlight) {
  const Image bytes = filled(1024, 'n');
  int first = -1;
  int second = -1;
  start(writing(0, bytes), first);
  start(writing(512, bytes), second);
  settle();
  EXPECT_NE(disk.misuse(), "");
}

TEST_F(SimulatedDiskTest, SeesMemoryThatChangesInFlight) {
  Image bytes = filled(512, 'n');
  int written = -1;
  start(writing(0, bytes), written);
  while (disk.in_flight() == 0) engine.step();
  bytes[7] = std::byte{'x'};
  settle();
  EXPECT_NE(disk.misuse(), "");
}

class LargeBlocks : public SimulatedDiskTest {
 protected:
  LargeBlocks() : SimulatedDiskTest(4096) {}
};

TEST_F(LargeBlocks, AnUnalignedWriteRewritesItsBlock) {
  EXPECT_EQ(write(512, filled(512, 'n')), 0);
  const crash::PendingState state = disk.pending();
  ASSERT_EQ(state.sectors.size(), 1u);
  EXPECT_EQ(state.sectors[0].at, 0u);
  EXPECT_EQ(state.sectors[0].versions[0][0], std::byte{'o'});
  EXPECT_EQ(state.sectors[0].versions[0][512], std::byte{'n'});
}

}  // namespace
