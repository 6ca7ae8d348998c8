// Claim   Things become durable in the order that ORDERING.md promises, at the cost it promises, and what fails is
// told. Method  A whole image on a scripted file, one thread, a clock that stands still: one test is one history.
#include "qcow2/flow/commit.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/open_image.h"

namespace {

using Kind = test::ScriptedFile::Kind;
using test::Bytes;
using test::empty_image;
using test::noise;
using test::OpenImage;
using test::random_bytes;

constexpr std::uint64_t cluster = OpenImage::cluster;
constexpr std::uint64_t disk_size = OpenImage::disk_size;

TEST(Commit, ALoneAllocatingFlushCostsTwoBarriers) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.flush();
  EXPECT_EQ(image.barriers(), 2u);
}

TEST(Commit, ADiscardCostsOneBarrierAndNothingCostsNone) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.flush();
  const std::size_t before = image.barriers();
  test::run(image.engine, image.disk->zero(core::DiskOffset{0}, cluster));
  image.flush();
  EXPECT_EQ(image.barriers(), before + 1);
  image.flush();
  EXPECT_EQ(image.barriers(), before + 1);
}

TEST(Commit, FlushesThatArriveDuringACommitShareTheNext) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.file.hold(Kind::barrier);
  std::vector<test::Started<void>> flushes{test::start(image.engine, image.disk->flush())};
  for (unsigned i = 1; i <= 8; ++i) {
    image.write(i * cluster, noise(cluster, i));
    flushes.push_back(test::start(image.engine, image.disk->flush()));
  }
  image.file.release(Kind::barrier);
  for (const auto& flush : flushes) flush.get();
  EXPECT_EQ(image.barriers(), 3u) << "two, and one for the other eight";
}

// Each flush is asked for while the one before it is under way, so each is a batch of its own.
TEST(Commit, BackToBackFlushesCostAboutOneBarrierEach) {
  OpenImage image(empty_image());
  image.file.hold(Kind::barrier);
  std::vector<test::Started<void>> flushes;
  for (unsigned i = 0; i < 100; ++i) {
    test::run(image.engine, image.writing(i % 64 * cluster, noise(cluster, i)));
    flushes.push_back(test::start(image.engine, image.disk->flush()));
    image.file.release_one(Kind::barrier);
    image.engine.settle();
    ASSERT_EQ(i < 2 || flushes[i - 2].done(), true) << "a flush waits for its own names, not for later batches";
  }
  image.file.release(Kind::barrier);
  for (const auto& flush : flushes) flush.get();
  EXPECT_GE(image.barriers(), 100u) << "each has to be a batch, or this shows nothing";
  EXPECT_LE(image.barriers(), 110u);
}

TEST(Commit, OverwritingAnIncompressibleClusterCostsOneBarrierAndNoSpace) {
  OpenImage image(empty_image());
  image.write(0, random_bytes(cluster, 1));
  image.flush();
  const std::size_t barriers = image.barriers();
  const std::uint64_t size = image.file.size();
  image.write(0, random_bytes(cluster, 2));
  image.flush();
  EXPECT_EQ(image.barriers(), barriers + 1);
  EXPECT_EQ(image.file.size(), size);
  EXPECT_EQ(image.read(0, cluster), random_bytes(cluster, 2));
  image.flush();
  EXPECT_EQ(image.barriers(), barriers + 1) << "nothing is pending";
}

TEST(Commit, ADiscardDuringAnOverwriteKeepsItsSpaceFromBeingReused) {
  OpenImage image(empty_image());
  image.write(0, random_bytes(cluster, 1));
  image.flush();
  image.file.hold(Kind::write);
  image.write(0, random_bytes(cluster, 2));
  ASSERT_EQ(image.file.held(Kind::write), 1u);
  const auto overwrite = image.file.operations().back();
  test::run(image.engine, image.disk->zero(core::DiskOffset{0}, cluster));
  const auto flush = test::start(image.engine, image.disk->flush());
  for (int i = 0; i < 3; ++i) image.write((10 + i) * cluster, random_bytes(cluster, 3));
  image.file.release(Kind::write);
  flush.get();
  image.flush();
  EXPECT_EQ(image.file.fault(), "") << "nobody writes where the overwrite is under way";
  EXPECT_EQ(image.read(0, cluster), Bytes(cluster));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(image.read((10 + i) * cluster, cluster), random_bytes(cluster, 3));
  EXPECT_EQ(overwrite.kind, Kind::write);
}

TEST(Commit, NoTableIsTouchedBeforeTheDataAreDurable) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.flush();  // the L2 table exists from here on
  const std::size_t first = image.file.operations().size();
  image.write(0, noise(cluster, 2));
  image.flush();

  std::vector<test::ScriptedFile::Operation> writes_before, writes_after;
  std::size_t barriers = 0;
  for (std::size_t i = first; i < image.file.operations().size(); ++i) {
    const auto& operation = image.file.operations()[i];
    if (operation.kind == Kind::barrier) ++barriers;
    if (operation.kind == Kind::write) (barriers == 0 ? writes_before : writes_after).push_back(operation);
  }
  EXPECT_EQ(barriers, 2u);
  ASSERT_EQ(writes_after.size(), 1u) << "exactly the changed L2 slice";
  EXPECT_EQ(writes_after[0].length, 4096u);
  ASSERT_GE(writes_before.size(), 2u) << "the fragment and the refcounts";
  for (const auto& write : writes_before) {
    EXPECT_TRUE(write.end() <= writes_after[0].at || write.at >= writes_after[0].end());
  }
}

TEST(Commit, BytesThatAreDurableAreNotWrittenAgainWhileNamed) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.flush();
  const auto writes = image.file.operations(Kind::write);
  const auto is_fragment = [](const auto& write) { return write.length > cluster / 4 && write.length < cluster; };
  ASSERT_EQ(std::count_if(writes.begin(), writes.end(), is_fragment), 1);
  const auto data = *std::find_if(writes.begin(), writes.end(), is_fragment);
  const std::size_t first = image.file.operations().size();
  for (unsigned i = 1; i < 20; ++i) {  // other clusters, so the first fragment stays named
    image.write(i * cluster, noise(cluster, i));
    if (i % 3 == 0) image.flush();
  }
  for (std::size_t i = first; i < image.file.operations().size(); ++i) {
    const auto& operation = image.file.operations()[i];
    if (operation.kind != Kind::write) continue;
    EXPECT_TRUE(operation.end() <= data.at || operation.at >= data.end()) << "rewritten at " << operation.at;
  }
  EXPECT_EQ(image.read(0, cluster), noise(cluster, 1));
}

TEST(Commit, AReaderKeepsTheSpaceItReadsFromBeingReused) {
  const Bytes prepared = [] {
    OpenImage image(empty_image());
    image.write(0, noise(cluster, 1));
    image.close();
    return image.content();
  }();
  OpenImage image(prepared);
  image.write(20 * cluster, noise(cluster, 1));  // brings the metadata into memory
  image.flush();
  image.file.hold(Kind::read);
  Bytes target(cluster);
  const auto reading = test::start(image.engine, image.disk->read(core::DiskOffset{0}, target));
  ASSERT_EQ(image.file.held(Kind::read), 1u);
  const auto operations = image.file.operations();
  const auto read = operations.back();
  ASSERT_EQ(read.kind, Kind::read);
  // The read is under way: overwrite, make durable, and write as much as would fill the freed cluster many times.
  for (unsigned round = 2; round < 6; ++round) {
    for (unsigned i = 0; i < 8; ++i) {
      const auto write = test::start(image.engine, image.writing(i * cluster, noise(cluster, round)));
      write.get();
    }
    const auto flush = test::start(image.engine, image.disk->flush());
    flush.get();
  }
  for (std::size_t i = operations.size(); i < image.file.operations().size(); ++i) {
    const auto& operation = image.file.operations()[i];
    if (operation.kind != Kind::write) continue;
    EXPECT_TRUE(operation.end() <= read.at || operation.at >= read.end()) << "reused at " << operation.at;
  }
  image.file.release(Kind::read);
  reading.get();
  EXPECT_EQ(target, noise(cluster, 1));
}

// A flush that was asked for before the overwrite began makes the discard durable while the overwrite is still under
// way.
TEST(Commit, AnOverwriteUnderWayKeepsItsDiscardedSpaceFromBeingReused) {
  OpenImage image(empty_image());
  image.write(0, random_bytes(cluster, 1));
  image.flush();
  image.file.hold(Kind::barrier);
  image.write(cluster, noise(cluster, 2));
  const auto first = test::start(image.engine, image.disk->flush());
  image.write(2 * cluster, noise(cluster, 3));
  const auto second = test::start(image.engine, image.disk->flush());
  image.file.hold(Kind::write);
  image.write(0, random_bytes(cluster, 4));
  ASSERT_EQ(image.file.held(Kind::write), 1u);
  ASSERT_EQ(image.file.operations().back().length, cluster) << "the overwrite in place";
  image.file.hold_no_more(Kind::write);
  test::run(image.engine, image.disk->zero(core::DiskOffset{0}, cluster));
  image.file.release(Kind::barrier);
  first.get();
  second.get();
  for (unsigned i = 3; i < 9; ++i) image.write(i * cluster, random_bytes(cluster, i));
  EXPECT_EQ(image.file.fault(), "") << "somebody writes where the overwrite is under way";
  image.file.release(Kind::write);
  image.flush();
  OpenImage again(image.content());
  EXPECT_EQ(again.read(0, cluster), Bytes(cluster));
  for (unsigned i = 3; i < 9; ++i) EXPECT_EQ(again.read(i * cluster, cluster), random_bytes(cluster, i));
}

TEST(Commit, ADiscardDuringARewriteWins) {
  OpenImage image(empty_image());
  image.write(0, noise(cluster, 1));
  image.flush();
  image.file.hold(Kind::write);
  // So many that full host clusters are on their way when the discard comes.
  for (unsigned i = 0; i < 40; ++i) image.write(i * cluster, noise(cluster, 10 + i));
  ASSERT_GE(image.file.held(Kind::write), 1u);
  test::run(image.engine, image.disk->zero(core::DiskOffset{0}, cluster));
  EXPECT_EQ(image.read(0, cluster), Bytes(cluster));
  image.file.release(Kind::write);
  image.flush();
  EXPECT_EQ(image.read(0, cluster), Bytes(cluster));
  OpenImage again(image.content());
  EXPECT_EQ(again.read(0, cluster), Bytes(cluster));
  EXPECT_EQ(again.read(cluster, cluster), noise(cluster, 11));
}

TEST(Commit, AFlushDuringAFlushOfTheSameHostClusterWritesBesideIt) {
  OpenImage image(empty_image());
  image.write(0, noise(4096, 1));
  image.file.hold(Kind::write);
  const auto first = test::start(image.engine, image.disk->flush());
  ASSERT_GE(image.file.held(Kind::write), 1u);
  image.write(cluster, noise(4096, 2));
  const auto second = test::start(image.engine, image.disk->flush());
  image.file.release(Kind::write);
  first.get();
  second.get();
  EXPECT_EQ(image.file.fault(), "") << "no two writes to one block at a time";
  OpenImage again(image.content());
  EXPECT_EQ(again.read(0, 4096), noise(4096, 1));
  EXPECT_EQ(again.read(cluster, 4096), noise(4096, 2));
}

TEST(Commit, WhatIsFreeGoesBackToTheHostAtTheEndAndOnlyThen) {
  OpenImage image(empty_image());
  for (unsigned i = 0; i < 20; ++i) image.write(i * cluster, noise(cluster, i));
  image.flush();
  const std::uint64_t full_size = image.file.size();
  test::run(image.engine, image.disk->zero(core::DiskOffset{0}, 8 * cluster));
  image.flush();
  for (unsigned i = 0; i < 2; ++i) image.write(i * cluster, noise(cluster, 30 + i));  // where there was something else
  test::run(image.engine, image.disk->zero(core::DiskOffset{16 * cluster}, 4 * cluster));
  image.flush();
  EXPECT_EQ(image.file.count(Kind::punch), 0u);
  image.close();
  const auto& operations = image.file.operations();
  const auto is_punch = [](const auto& operation) { return operation.kind == Kind::punch; };
  const auto first_punch = std::find_if(operations.begin(), operations.end(), is_punch);
  ASSERT_NE(first_punch, operations.end());
  EXPECT_TRUE(std::none_of(first_punch, operations.end(), [](const auto& late) { return late.kind == Kind::write; }));
  std::uint64_t punched = 0;
  for (const auto& operation : image.file.operations(Kind::punch)) punched += operation.length;
  EXPECT_GE(punched + full_size - image.file.size(), 4 * cluster);
  OpenImage again(image.content());
  for (unsigned i = 0; i < 20; ++i) {
    const Bytes expected = i < 2 ? noise(cluster, 30 + i) : i < 8 || i >= 16 ? Bytes(cluster) : noise(cluster, i);
    EXPECT_EQ(again.read(i * cluster, cluster), expected) << i;
  }
}

// Two flushed states and an unflushed one; a failure anywhere leaves what the last successful flush made durable.
struct Outcome {
  bool failed = false;
  unsigned durable = 0;  // the last value that a flush acknowledged
};

Outcome run_workload(OpenImage& image) {
  Outcome outcome;
  for (unsigned value = 1; value <= 3; ++value) {
    try {
      for (unsigned i = 0; i < 6; ++i) image.write(i * cluster / 2, noise(cluster, 10 * value + i));
      image.flush();
      outcome.durable = value;
    } catch (const core::Error&) {
      outcome.failed = true;
      break;
    }
  }
  return outcome;
}

void expect_failure_is_kept(OpenImage& image, const Outcome& outcome, int error_number) {
  if (!outcome.failed) return;
  EXPECT_EQ(image.disk->failure().value(), error_number);
  EXPECT_THROW(image.flush(), core::Error);
  EXPECT_THROW(image.write(0, noise(512, 99)), core::Error);
  const std::size_t writes = image.file.count(Kind::write);
  EXPECT_THROW(image.close(), core::Error);
  EXPECT_EQ(image.file.count(Kind::write), writes) << "nothing is written after a failure";

  OpenImage again(image.content());
  if (outcome.durable == 0) return;
  // The last half cluster of the workload belongs to its last write alone: old value or new, nothing else.
  const Bytes got = again.read(3 * cluster, cluster / 2);
  const auto part = [](unsigned value) {
    const Bytes whole = noise(cluster, 10 * value + 5);
    return Bytes(whole.begin() + cluster / 2, whole.end());
  };
  EXPECT_TRUE(got == part(outcome.durable) || got == part(outcome.durable + 1));
}

class Failing : public testing::TestWithParam<Kind> {};

TEST_P(Failing, AtAnyIndexIsReportedKeptAndHarmless) {
  const Bytes fresh = empty_image();
  std::size_t failures = 0;
  for (std::size_t k = 0;; ++k) {
    OpenImage image(fresh);
    image.file.fail(GetParam(), k, EIO, 512);
    const Outcome outcome = run_workload(image);
    const bool reached = image.file.count(GetParam()) > k;
    if (!reached) break;
    EXPECT_TRUE(outcome.failed) << "operation " << k << " failed and nobody was told";
    expect_failure_is_kept(image, outcome, EIO);
    ++failures;
  }
  EXPECT_GE(failures, GetParam() == Kind::barrier ? 6u : 9u);
}

int flush_error(OpenImage& image) {
  try {
    image.flush();
  } catch (const core::Error& error) {
    return error.code().value();
  }
  return 0;
}

Bytes last_write() { return noise(cluster, 35); }

// A full host costs nobody a byte: whatever write finds no space, it is told, and the same flush succeeds later.
// Shrinks to a little more than `size`.
Bytes that_takes(std::uint64_t size, unsigned seed) {
  Bytes bytes = random_bytes(size, seed);
  bytes.resize(cluster);
  return bytes;
}

TEST(Commit, DeadBlocksAmongLivingFragmentsAreWrittenAgain) {
  OpenImage image(empty_image());
  image.write(0, that_takes(40 << 10, 1));
  image.write(cluster, that_takes(12 << 10, 2));
  image.flush();
  const std::uint64_t full_size = image.file.size();
  image.write(0, that_takes(1 << 10, 3));
  image.flush();
  const std::size_t first = image.file.operations().size();
  image.write(2 * cluster, that_takes(30 << 10, 4));
  image.flush();
  EXPECT_LE(image.file.size(), full_size + 4096) << "where the first one was there is room";
  const auto& operations = image.file.operations();
  const auto is_fragment = [](const auto& each) { return each.kind == Kind::write && each.length >= 30 << 10; };
  const auto found =
      std::find_if(operations.begin() + static_cast<std::ptrdiff_t>(first), operations.end(), is_fragment);
  ASSERT_NE(found, operations.end());
  const std::uint64_t written_at = found->at;
  EXPECT_EQ(written_at % cluster, 0u);
  EXPECT_EQ(image.read(0, cluster), that_takes(1 << 10, 3));
  EXPECT_EQ(image.read(cluster, cluster), that_takes(12 << 10, 2));
  EXPECT_EQ(image.read(2 * cluster, cluster), that_takes(30 << 10, 4));
  test::run(image.engine, image.disk->zero(core::DiskOffset{2 * cluster}, cluster));
  image.close();
  EXPECT_TRUE(image.file.content_is(written_at, Bytes(28 << 10))) << "what is dead at the end goes back to the host";
}

TEST(Commit, WantOfSpaceIsSurvivedAtAnyWrite) {
  const Bytes fresh = empty_image();
  std::size_t shortages = 0;
  for (std::size_t k = 0;; ++k) {
    OpenImage image(fresh);
    image.file.fail(Kind::write, k, ENOSPC, 512);
    bool told = false;
    for (unsigned value = 1; value <= 3; ++value) {
      for (unsigned i = 0; i < 6; ++i) image.write(i * cluster / 2, noise(cluster, 10 * value + i));
      const int error_number = flush_error(image);
      if (error_number == 0) continue;
      EXPECT_EQ(error_number, ENOSPC);
      EXPECT_FALSE(told);
      told = true;
      image.flush();  // there is space again
    }
    EXPECT_FALSE(image.disk->failure());
    if (image.file.count(Kind::write) <= k) break;
    EXPECT_EQ(image.read(5 * cluster / 2, cluster), last_write());
    image.close();
    EXPECT_EQ(OpenImage(image.content()).read(5 * cluster / 2, cluster), last_write());
    if (told) ++shortages;
  }
  EXPECT_GE(shortages, 6u);
}

TEST(Commit, AWriteIsRefusedThatTheHostHasNoSpaceFor) {
  OpenImage image(empty_image());
  for (std::size_t k = 0; k < 100; ++k) image.file.fail(Kind::reserve, k, ENOSPC);
  try {
    image.write(0, noise(cluster, 1));
    FAIL() << "accepted what cannot be stored";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.code().value(), ENOSPC);
  }
  EXPECT_FALSE(image.disk->failure());
  image.flush();
  EXPECT_EQ(image.read(0, cluster), Bytes(cluster));
}

TEST(Commit, ADamagedClusterStopsNobodyElse) {
  const Bytes damaged = [] {
    OpenImage image(empty_image());
    image.write(0, noise(cluster, 1));
    image.close();
    Bytes content = image.content();
    const Bytes whole = content;
    for (const auto& write : image.file.operations(Kind::write)) {
      const bool is_fragment = write.length > cluster / 4 && write.length < cluster;
      if (is_fragment) std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(write.at), 4096, std::byte{0xff});
    }
    EXPECT_NE(content, whole);
    return content;
  }();
  OpenImage image(damaged);
  image.write(512, noise(512, 2));
  image.write(3 * cluster, noise(cluster, 3));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(flush_error(image), EIO) << "the rest of cluster 0 cannot be read";
  EXPECT_TRUE(image.disk->failure());
  EXPECT_EQ(OpenImage(image.content()).read(3 * cluster, cluster), noise(cluster, 3)) << "the others are durable";
  EXPECT_EQ(image.read(512, 512), noise(512, 2));
  EXPECT_THROW(image.read(0, 512), core::Error);
  image.write(0, noise(cluster, 4));
  image.flush();
  EXPECT_FALSE(image.disk->failure()) << "all of it was written anew";
  EXPECT_EQ(image.read(0, cluster), noise(cluster, 4));
}

INSTANTIATE_TEST_SUITE_P(Operations, Failing, testing::Values(Kind::write, Kind::barrier),
                         [](const auto& row) { return row.param == Kind::write ? "Writes" : "Barriers"; });

}  // namespace
