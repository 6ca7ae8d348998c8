// A part of a disk as a disk of its own: nothing that is done to it reaches beyond it.
#include "core/disk_range.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "tests/support/memory_disk.h"
#include "tests/support/run.h"

namespace {

constexpr std::uint32_t cluster = 4096;
constexpr std::uint64_t disk_size = 64 * cluster;
constexpr core::DiskOffset start{10 * cluster + 512};  // within a cluster, as partitions of old tables begin
constexpr std::uint64_t size = 20 * cluster + 1024;

core::SharedBytes filled(std::size_t length, char letter) {
  auto buffer = std::make_shared<core::Buffer>(length);
  std::fill_n(buffer->data(), length, static_cast<std::byte>(letter));
  return core::SharedBytes(std::move(buffer));
}

class Range : public testing::Test {
 protected:
  void write(core::GuestDisk& to, std::uint64_t at, std::size_t length, char letter) {
    test::run(engine, to.write(core::DiskOffset{at}, filled(length, letter)));
  }
  std::string read(core::GuestDisk& from, std::uint64_t at, std::size_t length) {
    core::Buffer target(length);
    test::run(engine, from.read(core::DiskOffset{at}, target.span()));
    return {reinterpret_cast<const char*>(target.data()), length};
  }
  template <class Value>
  int error_of(core::Awaitable<Value> step) {
    try {
      test::run(engine, std::move(step));
    } catch (const core::Error& error) {
      return error.code().value();
    }
    return 0;
  }

  test::TestEngine engine;
  test::MemoryDisk disk{disk_size, cluster};
  core::DiskRange range{disk, start, size};
};

TEST_F(Range, ItsBytesAreTheDisks) {
  write(range, 5, 3, 'a');
  EXPECT_EQ(read(disk, start.value + 4, 5), std::string("\0aaa\0", 5));
  write(disk, start.value + size - 2, 4, 'b');
  EXPECT_EQ(read(range, size - 3, 3), std::string("\0bb", 3));
}

TEST_F(Range, TheNeighboursStayWhatTheyAre) {
  write(disk, 0, disk_size, 'n');
  write(range, 0, size, 'w');
  test::run(engine, range.zero(core::DiskOffset{0}, size));
  EXPECT_EQ(read(disk, 0, start.value), std::string(start.value, 'n'));
  EXPECT_EQ(read(disk, start.value, size), std::string(size, '\0'));
  EXPECT_EQ(read(disk, start.value + size, disk_size - start.value - size),
            std::string(disk_size - start.value - size, 'n'));
}

TEST_F(Range, WhatEndsBehindItsEndIsRefusedWhole) {
  EXPECT_EQ(error_of(range.write(core::DiskOffset{size - 1}, filled(2, 'x'))), ENOSPC);
  EXPECT_EQ(error_of(range.write(core::DiskOffset{size}, filled(1, 'x'))), ENOSPC);
  EXPECT_EQ(error_of(range.write(core::DiskOffset{~std::uint64_t{0}}, filled(2, 'x'))), ENOSPC);
  EXPECT_EQ(error_of(range.write(core::DiskOffset{size - 1}, filled(1, 'y'))), 0);
  EXPECT_EQ(read(disk, start.value + size - 1, 2), std::string("y\0", 2));
  EXPECT_EQ(error_of(range.resize(size + 1)), EPERM);
  EXPECT_EQ(error_of(range.resize(0)), EPERM);
  EXPECT_EQ(error_of(range.resize(size)), 0);
  EXPECT_EQ(disk.size(), disk_size);
}

TEST_F(Range, DataAndHolesAreCountedFromItsStart) {
  const auto data = [&](std::uint64_t at) { return test::run(engine, range.next_data(core::DiskOffset{at})); };
  const auto hole = [&](std::uint64_t at) { return test::run(engine, range.next_hole(core::DiskOffset{at})); };
  write(disk, 0, 1, 'n');              // before it
  write(disk, disk_size - 1, 1, 'n');  // behind it
  EXPECT_EQ(data(0), size);
  EXPECT_EQ(hole(7), 7u);
  write(range, 5 * cluster - 512, 1, 'd');  // the start of a cluster of the disk
  EXPECT_EQ(data(0), 5 * cluster - 512u);
  EXPECT_EQ(hole(5 * cluster), 6 * cluster - 512u);
  write(range, size - 1, 1, 'd');
  EXPECT_EQ(hole(size - 1), size) << "the cluster goes on behind the range";
  EXPECT_EQ(data(size), size);
  EXPECT_EQ(hole(size), size);
}

TEST_F(Range, FlushingAndFailuresAreTheDisks) {
  test::run(engine, range.flush());
  EXPECT_EQ(disk.flushes(), 1u);
  disk.fail(core::make_error_code(core::Errc::device_failed));
  EXPECT_EQ(range.failure(), core::Errc::device_failed);
  EXPECT_NE(error_of(range.flush()), 0);
  test::run(engine, range.close());
  EXPECT_FALSE(disk.closed()) << "others use it";
}

TEST_F(Range, NobodyTakesARangeWithDataForAHole) {
  EXPECT_EQ(range.allocated_bytes(), 0u);
  write(disk, 0, 1, 'd');
  EXPECT_GE(range.allocated_bytes(), 512u);
  write(disk, 0, disk_size, 'd');
  EXPECT_EQ(range.allocated_bytes(), size);
}

}  // namespace
