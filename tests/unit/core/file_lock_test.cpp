// Who may open an image beside whom. Locks belong to open file descriptions, so one process can play every
// part.
#include "core/file_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"

namespace {

class FileLock : public testing::Test {
 protected:
  FileLock() { core::UniqueFd(::mkstemp(path_)); }
  ~FileLock() override { ::unlink(path_); }

  core::UniqueFd open(core::Access access) const {
    return core::UniqueFd(::open(path_, (access == core::Access::read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  }
  bool locks(const core::UniqueFd& file, core::Access access) const {
    try {
      core::lock_image(file.get(), access, path_);
      return true;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.code(), core::Errc::image_locked);
      EXPECT_EQ(core::describe(error),
                std::string(path_) + ": the image is in use by another program (QEMU or another qcowfs)");
      return false;
    }
  }
  // What another program of QEMU's kind does with one byte.
  static bool read_lock(const core::UniqueFd& file, off_t at) {
    struct flock request {};
    request.l_type = F_RDLCK;
    request.l_start = at;
    request.l_len = 1;
    return ::fcntl(file.get(), F_OFD_SETLK, &request) == 0;
  }
  static bool is_locked(const core::UniqueFd& file, off_t at) {
    struct flock request {};
    request.l_type = F_WRLCK;
    request.l_start = at;
    request.l_len = 1;
    EXPECT_EQ(::fcntl(file.get(), F_OFD_GETLK, &request), 0);
    return request.l_type != F_UNLCK;
  }

  char path_[32] = "/tmp/qcowfs-lock-XXXXXX";
};

using core::Access;

TEST_F(FileLock, WhoLooksForAMomentKeepsNobodyOut) {
  auto passing = open(Access::read_write);
  ASSERT_TRUE(read_lock(passing, 101));
  std::thread leaves([&passing] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    passing.reset();
  });
  const auto file = open(Access::read_write);
  EXPECT_TRUE(locks(file, Access::read_write));
  leaves.join();
}

TEST_F(FileLock, OfManyAtOnceOneGetsIt) {
  std::atomic<int> winners = 0;
  std::vector<std::thread> threads;
  std::vector<core::UniqueFd> files;
  for (int i = 0; i < 8; ++i) files.push_back(open(Access::read_write));
  for (const core::UniqueFd& file : files) {
    threads.emplace_back([&] {
      try {
        core::lock_image(file.get(), Access::read_write, path_);
        ++winners;
      } catch (const core::Error&) {  // the others
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
}

TEST_F(FileLock, TwoWritersExcludeEachOther) {
  const auto first = open(Access::read_write);
  const auto second = open(Access::read_write);
  EXPECT_TRUE(locks(first, Access::read_write));
  EXPECT_FALSE(locks(second, Access::read_write));
}

TEST_F(FileLock, WriterAndReaderExcludeEachOtherWhoeverComesFirst) {
  auto writer = open(Access::read_write);
  auto reader = open(Access::read_only);
  EXPECT_TRUE(locks(writer, Access::read_write));
  EXPECT_FALSE(locks(reader, Access::read_only));
  writer.reset();
  EXPECT_TRUE(locks(reader, Access::read_only));
  writer = open(Access::read_write);
  EXPECT_FALSE(locks(writer, Access::read_write));
}

TEST_F(FileLock, ReadersShare) {
  const auto first = open(Access::read_only);
  const auto second = open(Access::read_only);
  EXPECT_TRUE(locks(first, Access::read_only));
  EXPECT_TRUE(locks(second, Access::read_only));
}

TEST_F(FileLock, EndsWithTheLastDescriptor) {
  auto first = open(Access::read_write);
  const auto second = open(Access::read_write);
  EXPECT_TRUE(locks(first, Access::read_write));
  core::UniqueFd duplicate(::dup(first.get()));
  first.reset();
  EXPECT_FALSE(locks(second, Access::read_write));
  duplicate.reset();
  EXPECT_TRUE(locks(second, Access::read_write));
}

TEST_F(FileLock, SaysInQemusWordsWhatAWriterDoes) {
  const auto file = open(Access::read_write);
  const auto other = open(Access::read_write);
  ASSERT_TRUE(locks(file, Access::read_write));
  for (const off_t held : {100, 101, 103, 201, 203}) EXPECT_TRUE(is_locked(other, held)) << held;
  for (const off_t free : {102, 104, 200, 202, 204}) EXPECT_FALSE(is_locked(other, free)) << free;
}

TEST_F(FileLock, SaysInQemusWordsWhatAReaderDoes) {
  const auto file = open(Access::read_only);
  const auto other = open(Access::read_write);
  ASSERT_TRUE(locks(file, Access::read_only));
  for (const off_t held : {100, 201, 203}) EXPECT_TRUE(is_locked(other, held)) << held;
  for (const off_t free : {101, 102, 103, 200, 202}) EXPECT_FALSE(is_locked(other, free)) << free;
}

TEST_F(FileLock, RespectsEveryByteThatContradicts) {
  for (const off_t byte : {101, 103, 200, 201, 203}) {
    const auto other = open(Access::read_write);
    ASSERT_TRUE(read_lock(other, byte));
    EXPECT_FALSE(locks(open(Access::read_write), Access::read_write)) << byte;
  }
}

TEST_F(FileLock, DoesNotMindSomebodyWhoOnlyLooks) {
  const auto other = open(Access::read_only);
  ASSERT_TRUE(read_lock(other, 100));
  EXPECT_TRUE(locks(open(Access::read_write), Access::read_write));
}

}  // namespace
