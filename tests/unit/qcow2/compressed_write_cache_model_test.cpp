// Random histories of the compressed write cache against a map of bytes, with an owner like the real one:
// cursors that only move on, jump to a fresh block at a flush, and get freed clusters back.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>

#include "qcow2/host/compressed_write_cache.h"
#include "qcow2/host/range_set.h"
#include "tests/support/run.h"
#include "tests/support/scripted_file.h"

namespace qcow2 {
namespace {

using Kind = test::ScriptedFile::Kind;
using Bytes = std::vector<std::byte>;

struct Shape {
  const char* name;
  std::uint64_t block_size;
  std::uint64_t cluster_size;
  std::uint64_t clusters;
  std::uint64_t gathered = 0;  ///< clusters that wait for each other
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

/// Claim      Whatever was written reads back until its cluster is discarded; after a flush it is in the
///            file; no write overlaps another in time and blocks, none is unaligned, and none needs a read.
class History {
 public:
  History(const Shape& shape, std::uint64_t seed)
      : shape_(shape),
        random_(seed),
        file_(engine_, shape.block_size),
        cache_(engine_, file_, shape.cluster_size, shape.clusters * shape.cluster_size,
               shape.gathered * shape.cluster_size) {}

  void take_steps(std::size_t count) {
    for (std::size_t i = 0; i < count && !testing::Test::HasFailure(); ++i) {
      step();
      collect();
    }
  }

  void finish() {
    file_.release(Kind::write);
    for (Cursor& cursor : cursors_) close(cursor);
    engine_.settle();
    collect();
    EXPECT_TRUE(writing_.empty()) << "a write is stuck";
    test::run(engine_, cache_.flush());
    collect();
    EXPECT_TRUE(flushing_.empty()) << "a flush is stuck";
    EXPECT_EQ(cache_.known_clusters(), 0u) << "something stays behind";
    expect_in_file(completed_);
    EXPECT_EQ(file_.fault(), "");
    for (const auto& write : file_.operations(Kind::write)) EXPECT_TRUE(write.aligned);
    EXPECT_EQ(file_.count(Kind::read), reads_of_test_) << "the cache itself has read";
    test::run(engine_, cache_.stop());
  }

 private:
  struct Cursor {
    std::uint64_t at = 0;
    std::uint64_t end = 0;  // of the clusters that it owns; nothing is open where both are equal
  };
  struct Fragment {
    Bytes bytes;
    std::uint64_t number;  // of its completion
  };
  struct Writing {
    test::Started<void> task;
    std::uint64_t at;
    Bytes bytes;
  };
  struct Flushing {
    test::Started<void> task;
    std::uint64_t last_fragment;  // that had completed when it began
  };

  std::uint64_t below(std::uint64_t bound) {
    return std::uniform_int_distribution<std::uint64_t>(0, bound - 1)(random_);
  }

  void step() {
    const std::uint64_t choice = below(100);
    if (choice < 45) return write();
    if (choice < 70) return read();
    if (choice < 74) return seal_and_flush();
    if (choice < 80) return discard();
    if (choice < 83) return file_.hold(Kind::write);
    if (choice < 93) {
      file_.release_one(Kind::write);
      return engine_.settle();
    }
    if (choice < 97) {
      file_.release(Kind::write);
      return engine_.settle();
    }
    if (choice < 98) return cache_.set_size(below(2 * shape_.clusters + 1) * shape_.cluster_size);
    close(cursors_[below(cursors_.size())]);
  }

  void write() {
    Cursor& cursor = cursors_[below(4) == 0 ? 1 : 0];
    const std::uint64_t longest =
        below(3) == 0 ? shape_.cluster_size : std::min<std::uint64_t>(shape_.cluster_size, 700);
    std::uint64_t length = 1 + below(longest);
    if (below(10) == 0 && cursor.at < cursor.end) {  // just up to the border
      length = std::min(shape_.cluster_size - cursor.at % shape_.cluster_size, shape_.cluster_size);
    }
    while (cursor.at + length > cursor.end) extend_or_reopen(cursor);
    Bytes bytes = random_bytes(length);
    const auto owner = std::make_shared<Bytes>(bytes);
    const core::SharedBytes payload(owner, *owner);
    const std::uint64_t at = cursor.at;
    cursor.at += length;
    writing_.push_back({test::start(engine_, cache_.write({at}, payload)), at, std::move(bytes)});
  }

  Bytes random_bytes(std::size_t length) {
    Bytes bytes(length);
    for (std::size_t at = 0; at < length; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random_();
      std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), length - at));
    }
    return bytes;
  }

  void extend_or_reopen(Cursor& cursor) {
    const std::uint64_t next = cursor.end / shape_.cluster_size;
    if (cursor.at < cursor.end && below(4) != 0 && take_cluster(next)) {
      cursor.end += shape_.cluster_size;
      return;
    }
    close(cursor);
    std::uint64_t index = free_.empty() ? next_index_ : *free_.begin();
    if (below(8) == 0) index = next_index_;
    ASSERT_TRUE(take_cluster(index));
    cursor = {index * shape_.cluster_size, (index + 1) * shape_.cluster_size};
  }

  bool take_cluster(std::uint64_t index) {
    if (index == next_index_) {
      ++next_index_;
      return true;
    }
    return free_.erase(index) != 0;
  }

  void close(Cursor& cursor) {
    if (cursor.at < cursor.end && cursor.at % shape_.cluster_size != 0) cache_.set_cluster_end({cursor.at});
    const std::uint64_t untouched = (cursor.at + shape_.cluster_size - 1) / shape_.cluster_size;
    for (std::uint64_t index = untouched; index < cursor.end / shape_.cluster_size; ++index) free_.insert(index);
    cursor = {};
  }

  void seal_and_flush() {
    constexpr std::uint64_t fresh_block = 4096;
    for (Cursor& cursor : cursors_) {
      const std::uint64_t fresh = (cursor.at + fresh_block - 1) / fresh_block * fresh_block;
      if (fresh >= cursor.end) {
        close(cursor);
      } else {
        cache_.skip_to({cursor.at}, {fresh});
        cursor.at = fresh;
      }
    }
    const std::uint64_t last_fragment = completed_;
    flushing_.push_back({test::start(engine_, cache_.flush()), last_fragment});
  }

  void read() {
    if (fragments_.empty()) return;
    auto chosen = fragments_.lower_bound(below(next_index_ * shape_.cluster_size));
    if (chosen == fragments_.end()) chosen = fragments_.begin();
    const std::uint64_t at = chosen->first;
    const Bytes& bytes = chosen->second.bytes;
    const std::uint64_t from = below(bytes.size());
    const std::uint64_t length = 1 + below(bytes.size() - from);
    Bytes target(length, std::byte{0xEE});
    const std::size_t reads_before = file_.count(Kind::read);
    test::run(engine_, cache_.read({at + from}, target));
    reads_of_test_ += file_.count(Kind::read) - reads_before;
    EXPECT_EQ(std::memcmp(target.data(), bytes.data() + from, length), 0) << "reading " << at << "+" << from;
  }

  // Of a cluster in which nobody writes any more, or sometimes of one with a cursor in it, whose owner goes
  // on.
  void discard() {
    const std::uint64_t index = below(next_index_ + 1);
    const std::uint64_t begin = index * shape_.cluster_size;
    const std::uint64_t end = begin + shape_.cluster_size;
    if (free_.contains(index) || index == next_index_) return;
    bool open = false;
    for (const Cursor& cursor : cursors_) {
      if (cursor.end > begin && cursor.at / shape_.cluster_size <= index) open = true;
    }
    for (const Writing& writing : writing_) {
      if (writing.at < end && writing.at + writing.bytes.size() > begin) return;
    }
    if (open && below(4) != 0) return;
    std::erase_if(fragments_, [begin, end](const auto& entry) {
      return entry.first < end && entry.first + entry.second.bytes.size() > begin;
    });
    const auto discarding = test::start(engine_, cache_.discard({begin + below(shape_.cluster_size)}));
    if (!discarding.done()) {
      file_.release(Kind::write);
      discarding.get();
    }
    EXPECT_FALSE(cache_.holds({begin}, 1));
    if (!open) free_.insert(index);
  }

  void collect() {
    for (std::size_t i = 0; i < writing_.size();) {
      if (!writing_[i].task.done()) {
        ++i;
        continue;
      }
      writing_[i].task.get();
      fragments_[writing_[i].at] = {std::move(writing_[i].bytes), ++completed_};
      writing_.erase(writing_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    std::erase_if(flushing_, [this](const Flushing& flush) {
      if (!flush.task.done()) return false;
      flush.task.get();
      expect_in_file(flush.last_fragment);
      return true;
    });
  }

  void expect_in_file(std::uint64_t last_fragment) {
    for (const auto& [at, fragment] : fragments_) {
      if (fragment.number > last_fragment) continue;
      EXPECT_TRUE(file_.content_is(at, fragment.bytes)) << "not in the file: " << at << "+" << fragment.bytes.size();
    }
  }

  Shape shape_;
  std::mt19937_64 random_;
  test::TestEngine engine_;
  test::ScriptedFile file_;
  CompressedWriteCache cache_;
  std::vector<Cursor> cursors_ = std::vector<Cursor>(2);
  std::uint64_t next_index_ = 0;
  std::set<std::uint64_t> free_;
  std::map<std::uint64_t, Fragment> fragments_;  // by offset
  std::uint64_t completed_ = 0;
  std::size_t reads_of_test_ = 0;
  std::vector<Writing> writing_;
  std::vector<Flushing> flushing_;
};

class CompressedWriteCacheModel : public testing::TestWithParam<Shape> {};

TEST_P(CompressedWriteCacheModel, RandomHistoriesAgreeWithAMapOfBytes) {
  for (std::uint64_t seed = 1; seed <= 6 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    History history(GetParam(), seed);
    history.take_steps(3000);
    history.finish();
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CompressedWriteCacheModel,
                         testing::Values(Shape{"ClustersOfOneBlock", 512, 512, 6}, Shape{"RoomForOne", 512, 4096, 1},
                                         Shape{"FewClusters", 512, 4096, 4}, Shape{"LargeBlocks", 4096, 4096, 4},
                                         Shape{"MiddlingClusters", 512, 16384, 3},
                                         Shape{"UsualClusters", 512, 65536, 8},
                                         Shape{"GatheredClusters", 512, 4096, 12, 4},
                                         Shape{"MoreToGatherThanRoom", 512, 4096, 4, 16},
                                         Shape{"UsualClustersOnLargeBlocks", 4096, 65536, 5}),
                         [](const auto& shape) { return std::string(shape.param.name); });

// ---- on real threads: for the thread sanitizer, and for orders that the deterministic engine never takes

struct Stream {
  CompressedWriteCache& cache;
  std::uint64_t cursor = 0;
  std::vector<std::pair<std::uint64_t, std::size_t>> written;
};

std::byte byte_at(std::uint64_t at) { return static_cast<std::byte>(at * 0x9E3779B1u >> 11 | 1); }

Bytes bytes_at(std::uint64_t at, std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = byte_at(at + i);
  return bytes;
}

core::Awaitable<void> write_fragments(Stream& stream, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < 300; ++i) {
    const std::size_t length = 1 + random() % 3000;
    const std::uint64_t at = stream.cursor;
    stream.cursor += length;
    const auto owner = std::make_shared<Bytes>(bytes_at(at, length));
    const core::SharedBytes payload(owner, *owner);
    co_await stream.cache.write(HostOffset{at}, payload);
    stream.written.emplace_back(at, length);
    const auto [known_at, known_length] = stream.written[random() % stream.written.size()];
    Bytes target(known_length);
    co_await stream.cache.read(HostOffset{known_at}, target);
    EXPECT_TRUE(target == bytes_at(known_at, known_length));
  }
}

core::Awaitable<void> flush_now_and_then(core::Engine& engine, Stream& stream) {
  for (int i = 0; i < 20; ++i) {
    co_await stream.cache.flush();
    const auto pause = std::chrono::milliseconds(1);
    co_await engine.sleep_for(pause);
  }
}

core::Awaitable<void> run_streams(core::Engine& engine, Stream& stream) {
  core::TaskGroup group(engine.executor());
  for (std::uint64_t seed = 1; seed <= 6; ++seed) group.spawn(write_fragments(stream, seed));
  group.spawn(flush_now_and_then(engine, stream));
  co_await group.join();
  stream.cache.set_cluster_end({stream.cursor});
  co_await stream.cache.flush();
  EXPECT_EQ(stream.cache.known_clusters(), 0u);
  co_await stream.cache.stop();
}

TEST(CompressedWriteCache, WorksBesideRealThreads) {
  core::ThreadedEngine engine(3);
  test::ScriptedFile file(engine);
  CompressedWriteCache cache(engine, file, 16384, 4 * 16384, 2 * 16384);
  Stream stream{cache, 0, {}};
  boost::asio::co_spawn(engine.executor(), run_streams(engine, stream), core::Supervised{"test"});
  engine.run();
  EXPECT_EQ(stream.written.size(), 1800u);
  EXPECT_TRUE(file.content(0, stream.cursor) == bytes_at(0, stream.cursor));
  EXPECT_EQ(file.fault(), "");
}

void mark(std::vector<bool>& bytes, RangeSet::Range range) {
  for (std::uint64_t at = range.begin; at < range.end; ++at) bytes[at] = true;
}

TEST(RangeSet, AgreesWithASetOfBytes) {
  std::mt19937_64 random(1);
  for (int history = 0; history < 300; ++history) {
    RangeSet ranges;
    std::vector<bool> bytes(64);
    for (int i = 0; i < 12; ++i) {
      const RangeSet::Range added{random() % 64, random() % 65};
      ranges.add(added);
      mark(bytes, added);
      const RangeSet::Range window{random() % 32, 32 + random() % 33};
      std::vector<bool> within(64);
      std::vector<bool> missing(64);
      for (const auto& part : ranges.within(window)) mark(within, part);
      for (const auto& part : ranges.missing(window)) mark(missing, part);
      bool all = true;
      bool any = false;
      for (std::uint64_t at = 0; at < 64; ++at) {
        const bool inside = window.begin <= at && at < window.end;
        EXPECT_EQ(within[at], inside && bytes[at]);
        EXPECT_EQ(missing[at], inside && !bytes[at]);
        all = all && (!inside || bytes[at]);
        any = any || (inside && bytes[at]);
      }
      EXPECT_EQ(ranges.covers(window), all);
      EXPECT_EQ(ranges.overlaps(window), any);
    }
    for (std::size_t i = 1; i < ranges.ranges().size(); ++i) {
      EXPECT_LT(ranges.ranges()[i - 1].end, ranges.ranges()[i].begin);
    }
  }
}

}  // namespace
}  // namespace qcow2
