#include "core/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <vector>

#include "core/error.h"
#include "tests/support/run.h"
#include "tests/support/scripted_file.h"

namespace {

using core::FileOffset;
using test::ScriptedFile;
using Kind = ScriptedFile::Kind;

constexpr core::ReadAhead::Sizes sizes{
    .chunk = 4096, .window = 32 << 10, .kept = 64 << 10, .slack = 16 << 10, .run = 8192};
constexpr std::uint64_t file_bytes = 512 << 10;

class ReadAhead : public testing::Test {
 protected:
  ReadAhead() {
    for (std::byte& byte : content_) byte = static_cast<std::byte>(random_());
    far_->set_content(0, content_);
  }

  std::vector<std::byte> read(std::uint64_t at, std::uint64_t length) {
    std::vector<std::byte> bytes(length);
    test::run(engine_, file_.read_at(FileOffset{at}, bytes));
    return bytes;
  }
  /// What is there.
  std::vector<std::byte> truth(std::uint64_t at, std::uint64_t length) const {
    const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(at);
    return {begin, begin + static_cast<std::ptrdiff_t>(length)};
  }
  void read_in_order(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t at = from; at < to; at += 4096) EXPECT_EQ(read(at, 4096), truth(at, 4096)) << at;
  }
  /// The furthest byte that was asked of the file itself.
  std::uint64_t furthest() const {
    std::uint64_t end = 0;
    for (const ScriptedFile::Operation& read : far_->operations(Kind::read)) end = std::max(end, read.end());
    return end;
  }
  core::Awaitable<void> change(bool punches, std::uint64_t at, core::Bytes bytes) {
    if (punches) {
      co_await file_.punch(FileOffset{at}, bytes.size());
    } else {
      co_await file_.write_at(FileOffset{at}, bytes);
    }
  }
  std::uint64_t draw(std::uint64_t bound) {
    return std::uniform_int_distribution<std::uint64_t>(0, bound - 1)(random_);
  }

  std::mt19937_64 random_{7};
  std::vector<std::byte> content_ = std::vector<std::byte>(file_bytes);
  test::TestEngine engine_;
  std::shared_ptr<ScriptedFile> far_ = std::make_shared<ScriptedFile>(engine_);
  core::ReadAhead file_{engine_, far_, sizes};
};

TEST_F(ReadAhead, GoesAsFarAsWasReadInOrderAndNoFurtherThanTheWindow) {
  read_in_order(0, 4096);
  EXPECT_EQ(furthest(), 4096u);  // that alone is no order
  read_in_order(4096, 16384);
  EXPECT_EQ(furthest(), 16384u + 12288u);  // what came after the first
  read_in_order(16384, 131072);
  EXPECT_EQ(furthest(), 131072u + sizes.window);
}

TEST_F(ReadAhead, ReadsNothingTwice) {
  read_in_order(0, 256 << 10);

  std::uint64_t bytes = 0;
  for (const ScriptedFile::Operation& read : far_->operations(Kind::read)) bytes += read.length;
  EXPECT_EQ(bytes, furthest());
}

TEST_F(ReadAhead, LeavesAloneWhoReadsHereAndThere) {
  for (const std::uint64_t at : {300u, 20u, 410u, 130u, 250u, 60u, 350u})
    EXPECT_EQ(read(at << 10, 512), truth(at << 10, 512));
  EXPECT_EQ(far_->count(Kind::read), 7u);
}

TEST_F(ReadAhead, FollowsSeveralReaders) {
  for (std::uint64_t at = 0; at < 64 << 10; at += 4096) {
    read_in_order(at, at + 4096);
    read_in_order((256 << 10) + at, (256 << 10) + at + 4096);
  }
  EXPECT_EQ(furthest(), (320u << 10) + sizes.window / 2);
}

TEST_F(ReadAhead, ReadsBeyondTheEndAsZeros) {
  read_in_order(file_bytes - (32 << 10), file_bytes);
  EXPECT_EQ(read(file_bytes - 512, 1024), [this] {
    std::vector<std::byte> bytes = truth(file_bytes - 512, 512);
    bytes.resize(1024);
    return bytes;
  }());
  EXPECT_LE(furthest(), file_bytes + 512);
}

TEST_F(ReadAhead, TellsTheErrorOfWhatIsAskedForAndReadsThatAgain) {
  read_in_order(0, 12288);  // has read ahead up to 24576
  far_->fail(Kind::read, far_->count(Kind::read), EIO);
  read_in_order(12288, 16384);  // whose reading ahead fails at once
  read_in_order(16384, 65536);
  for (std::size_t i = 0; i < 40; ++i) far_->fail(Kind::read, far_->count(Kind::read) + i, EIO);
  std::vector<std::byte> bytes(4096);
  EXPECT_THROW(test::run(engine_, file_.read_at(FileOffset{400 << 10}, bytes)), core::Error);
}

// A read that went ahead before or beside a write does not bring the old bytes back.
TEST_F(ReadAhead, ServesNothingThatAWriteHasReplaced) {
  read_in_order(0, 12288);
  far_->hold(Kind::read);
  far_->hold(Kind::write);
  std::vector<std::byte> asked(4096);
  auto reading = test::start(engine_, file_.read_at(FileOffset{12288}, asked));  // sends reads ahead, up to 28672
  const std::vector<std::byte> fresh(4096, std::byte{0x5a});
  const core::Bytes bytes(fresh);
  auto writing = test::start(engine_, file_.write_at(FileOffset{24576}, bytes));
  std::vector<std::byte> more(4096);
  auto beside = test::start(engine_, file_.read_at(FileOffset{16384}, more));
  far_->release(Kind::read);  // old bytes, all of them
  reading.get();
  beside.get();
  far_->release(Kind::write);
  writing.get();
  std::copy(fresh.begin(), fresh.end(), content_.begin() + 24576);
  read_in_order(16384, 49152);
}

// One change or read at a time, each complete before the next, while what is read ahead comes whenever it likes.
TEST_F(ReadAhead, ShowsWhatWasWrittenWhateverWasReadAhead) {
  std::uint64_t place = 0;
  for (int step = 0; step < 20000; ++step) {
    if (draw(20) == 0) place = 512 * draw(file_bytes / 512);
    const std::uint64_t length = std::min<std::uint64_t>(512 * (1 + draw(16)), file_bytes - place);
    if (draw(4) == 0) far_->hold(Kind::read);
    const std::uint64_t what = draw(10);
    if (what < 7) {
      std::vector<std::byte> bytes(length);
      auto reading = test::start(engine_, file_.read_at(FileOffset{place}, bytes));
      for (int tries = 0; !reading.done() && tries < 1000; ++tries) {
        far_->release_one(Kind::read);
        engine_.settle();
      }
      reading.get();
      ASSERT_EQ(bytes, truth(place, length)) << "step " << step << " at " << place;
      place = (place + length) % file_bytes;
    } else {
      const std::uint64_t there = std::min(file_bytes - length, place / 512 * 512 + 4096 * draw(8));
      std::vector<std::byte> fresh(length, what == 9 ? std::byte{0} : static_cast<std::byte>(random_()));
      far_->hold(Kind::write);
      const core::Bytes bytes(fresh);
      auto changing = test::start(engine_, change(what == 9, there, bytes));
      // Somebody else reads on meanwhile, and sends more ahead.
      const std::uint64_t elsewhere = 512 * draw(file_bytes / 512 - 8);
      std::vector<std::byte> ignored(4096);
      auto reading = test::start(engine_, file_.read_at(FileOffset{draw(2) == 0 ? place : elsewhere}, ignored));
      if (draw(2) == 0) far_->release(Kind::read);
      far_->release(Kind::write);
      changing.get();
      far_->release(Kind::read);
      reading.get();
      std::copy(fresh.begin(), fresh.end(), content_.begin() + static_cast<std::ptrdiff_t>(there));
    }
    if (draw(3) == 0) far_->release(Kind::read);
    engine_.settle();
  }
  far_->release(Kind::read);
  engine_.settle();
}

}  // namespace
