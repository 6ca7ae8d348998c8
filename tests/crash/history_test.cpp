// Claim   A sector may show what was current at the last acknowledged flush or anything submitted later, nothing else.
#include "tests/crash/history.h"

#include <gtest/gtest.h>

namespace {

using crash::History;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t sector = crash::guest_sector;

Bytes filled(std::size_t size, char value) { return Bytes(size, static_cast<std::byte>(value)); }
std::uint64_t hash_of(char value) { return crash::hash_sector(filled(sector, value)); }

std::vector<std::uint64_t> values(const History::Allowed& allowed, std::uint64_t at) {
  for (const auto& entry : allowed.entries) {
    if (entry.sector != at) continue;
    const auto first = allowed.values.begin() + static_cast<std::ptrdiff_t>(entry.first);
    return {first, first + static_cast<std::ptrdiff_t>(entry.count)};
  }
  return {crash::zero_hash};
}

void flush(History& history) { history.complete_flush(history.begin_flush()); }
void write(History& history, std::uint64_t at, const Bytes& bytes) { history.complete(history.begin_write(at, bytes)); }

TEST(History, AFlushSettlesWhatHadCompletedWhenItStarted) {
  History history(4096);
  write(history, 0, filled(sector, 'a'));
  const std::uint64_t late = history.begin_write(sector, filled(sector, 'b'));
  const std::uint64_t token = history.begin_flush();
  history.complete(late);
  history.complete_flush(token);
  EXPECT_EQ(values(history.allowed(), 0), std::vector<std::uint64_t>{hash_of('a')});
  EXPECT_EQ(values(history.allowed(), 1), (std::vector<std::uint64_t>{crash::zero_hash, hash_of('b')}));
}

TEST(History, EverythingSubmittedSinceMayShow) {
  History history(4096);
  write(history, 0, filled(sector, 'a'));
  flush(history);
  write(history, 0, filled(sector, 'b'));
  history.begin_write(0, filled(sector, 'c'));
  EXPECT_EQ(values(history.allowed(), 0), (std::vector<std::uint64_t>{hash_of('a'), hash_of('b'), hash_of('c')}));
}

TEST(History, PartOfASectorKeepsTheRest) {
  History history(4096);
  write(history, 0, filled(sector, 'a'));
  write(history, 100, filled(10, 'b'));
  flush(history);
  Bytes expected = filled(sector, 'a');
  std::fill(expected.begin() + 100, expected.begin() + 110, std::byte{'b'});
  EXPECT_EQ(values(history.allowed(), 0), std::vector<std::uint64_t>{crash::hash_sector(expected)});
}

TEST(History, WhatIsCutOffIsZero) {
  History history(4096);
  write(history, 0, filled(2048, 'a'));
  history.complete(history.begin_resize(1024));
  history.complete(history.begin_resize(4096));
  flush(history);
  const History::Allowed allowed = history.allowed();
  EXPECT_EQ(values(allowed, 1), std::vector<std::uint64_t>{hash_of('a')});
  EXPECT_EQ(values(allowed, 2), std::vector<std::uint64_t>{crash::zero_hash});
  EXPECT_EQ(allowed.sizes, std::set<std::uint64_t>{4096});
}

TEST(History, OfWritesBeyondTheEndAnyMayHaveMadeTheDiskLarger) {
  History history(1024);
  const std::uint64_t far = history.begin_write(8192 - sector, filled(sector, 'a'));
  write(history, 4096 - sector, filled(sector, 'b'));
  EXPECT_EQ(history.size(), 8192u);
  EXPECT_EQ(history.allowed().sizes, (std::set<std::uint64_t>{1024, 4096, 8192}));
  flush(history);
  EXPECT_EQ(history.allowed().sizes, (std::set<std::uint64_t>{4096, 8192})) << "the first may have failed";
  history.complete(far);
  flush(history);
  EXPECT_EQ(history.allowed().sizes, std::set<std::uint64_t>{8192});
  history.complete(history.begin_resize(2048));
  EXPECT_EQ(history.allowed().sizes, (std::set<std::uint64_t>{2048, 8192}));
  flush(history);
  EXPECT_EQ(history.allowed().sizes, std::set<std::uint64_t>{2048});
}

TEST(History, AReadSeesWhatWasThereWhenItBeganOrLater) {
  History history(4096);
  write(history, 0, filled(sector, 'a'));
  write(history, 0, filled(sector, 'b'));
  const std::uint64_t token = history.begin_read();
  write(history, 0, filled(sector, 'c'));
  flush(history);
  history.allowed();
  EXPECT_FALSE(history.had(token, 0, filled(sector, 'a')));
  EXPECT_TRUE(history.had(token, 0, filled(sector, 'b')));
  EXPECT_TRUE(history.had(token, 0, filled(sector, 'c')));
}

TEST(History, JudgesAnImage) {
  History history(4 * sector);
  write(history, sector, filled(sector, 'a'));
  flush(history);
  const crash::FragmentDecoder::Hashes content{crash::zero_hash, hash_of('a')};
  const crash::FragmentDecoder::Hashes other{hash_of('x'), hash_of('a')};
  crash::Walk walk;
  walk.disk_size = 4 * sector;
  walk.cluster_size = 2 * sector;
  walk.content = {{0, &content}};
  EXPECT_EQ(history.allowed().judge(walk), "");
  walk.content = {{0, &other}};
  EXPECT_NE(history.allowed().judge(walk), "") << "a value that nobody wrote";
  walk.content = {};
  EXPECT_NE(history.allowed().judge(walk), "") << "a value that is gone";
  walk.content = {{0, &content}, {1, &content}};
  EXPECT_NE(history.allowed().judge(walk), "") << "a value where nothing was written";
  walk.content = {{0, &content}};
  walk.disk_size = 8 * sector;
  EXPECT_NE(history.allowed().judge(walk), "") << "a size that the disk never had";
}

}  // namespace
