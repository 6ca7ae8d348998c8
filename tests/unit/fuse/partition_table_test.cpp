// Which partitions a disk has. The tables are made by sfdisk, and its own list of them is the judge.
#include "fuse/partition_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>

#include "core/unique_fd.h"
#include "tests/support/memory_disk.h"
#include "tests/support/run.h"

namespace {

namespace json = boost::json;

constexpr std::uint64_t MiB = 1 << 20;
using Row = std::tuple<unsigned, std::uint64_t, std::uint64_t>;  // number, start, size
using Rows = std::vector<Row>;

// A raw file of a disk, and the same as a disk in memory.
class Disk {
 public:
  explicit Disk(std::uint64_t size) : size_(size) {
    std::string name = testing::TempDir() + "disk-XXXXXX";
    file_ = core::UniqueFd(::mkstemp(name.data()));
    path_ = name;
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) ADD_FAILURE() << path_;
  }
  ~Disk() { ::unlink(path_.c_str()); }

  void partition(const std::string& script) {
    run("printf '" + script + "' | PATH=$PATH:/usr/sbin:/sbin sfdisk -q '" + path_ + "'");
  }
  void forget_partition(unsigned number) {
    run("PATH=$PATH:/usr/sbin:/sbin sfdisk -q --delete '" + path_ + "' " + std::to_string(number));
  }
  void overwrite(std::uint64_t at, const std::string& bytes) {
    ASSERT_EQ(::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  void resize(std::uint64_t size) {
    size_ = size;
    ASSERT_EQ(::ftruncate(file_.get(), static_cast<off_t>(size)), 0);
  }
  std::string bytes(std::uint64_t at, std::size_t length) const {
    std::string content(length, '\0');
    EXPECT_EQ(::pread(file_.get(), content.data(), length, static_cast<off_t>(at)), static_cast<ssize_t>(length));
    return content;
  }

  /// Nothing where there is no table.
  std::optional<Rows> found() const {
    test::TestEngine engine;
    test::MemoryDisk disk(size_);
    copy_into(disk, engine);
    const auto partitions = test::run(engine, fuse::read_partition_table(disk));
    if (!partitions) return std::nullopt;
    Rows rows;
    for (const fuse::Partition& row : *partitions) rows.emplace_back(row.number, row.start.value, row.size);
    return rows;
  }

  /// What sfdisk says, without extended partitions.
  Rows judged() const {
    const std::string command = "PATH=$PATH:/usr/sbin:/sbin sfdisk -J '" + path_ + "' 2>/dev/null";
    std::string text;
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    std::array<char, 4096> piece;
    while (const std::size_t count = std::fread(piece.data(), 1, piece.size(), pipe)) text.append(piece.data(), count);
    EXPECT_EQ(::pclose(pipe), 0) << command;
    Rows rows;
    const json::value document = json::parse(text);
    for (const json::value& row : document.at("partitiontable").at("partitions").as_array()) {
      const json::string& type = row.at("type").as_string();
      if (type == "5" || type == "f") continue;
      const std::string node = row.at("node").as_string().c_str();
      rows.emplace_back(number_of(node), row.at("start").to_number<std::uint64_t>() * 512,
                        row.at("size").to_number<std::uint64_t>() * 512);
    }
    return rows;
  }

 private:
  /// sfdisk appends the number to the file's name, with a p between two digits.
  unsigned number_of(const std::string& node) const {
    std::string digits = node.substr(path_.size());
    if (digits.starts_with("p")) digits.erase(0, 1);
    return static_cast<unsigned>(std::stoul(digits));
  }
  void copy_into(test::MemoryDisk& disk, test::TestEngine& engine) const {
    off_t at = 0;
    while ((at = ::lseek(file_.get(), at, SEEK_DATA)) >= 0) {
      const off_t end = ::lseek(file_.get(), at, SEEK_HOLE);
      auto buffer = std::make_shared<core::Buffer>(static_cast<std::size_t>(end - at));
      EXPECT_EQ(::pread(file_.get(), buffer->data(), buffer->size(), at), end - at);
      const core::SharedBytes data(std::move(buffer));
      test::run(engine, disk.write(core::DiskOffset{static_cast<std::uint64_t>(at)}, data));
      at = end;
    }
  }

  static void run(const std::string& command) { ASSERT_EQ(std::system((command + " >/dev/null 2>&1").c_str()), 0); }

  std::uint64_t size_;
  std::string path_;
  core::UniqueFd file_;
};

TEST(PartitionTable, PrimaryPartitions) {
  Disk disk(100 * MiB);
  disk.partition("label: dos\\nsize=10M\\nsize=20M, bootable\\n");
  EXPECT_EQ(disk.found(), disk.judged());
  EXPECT_EQ(disk.found()->size(), 2u);
}

TEST(PartitionTable, GapsInTheNumbersStay) {
  Disk disk(100 * MiB);
  disk.partition("label: dos\\nsize=10M\\nsize=20M\\nsize=30M\\n");
  disk.forget_partition(2);
  EXPECT_EQ(disk.found(), disk.judged());
  EXPECT_EQ(std::get<0>(disk.found()->at(1)), 3u);
}

TEST(PartitionTable, LogicalPartitionsCountFromFive) {
  Disk disk(100 * MiB);
  disk.partition("label: dos\\nsize=10M\\nsize=50M, type=5\\nsize=5M\\nsize=3M\\nsize=4M\\nsize=6M\\nsize=2M\\n");
  EXPECT_EQ(disk.found(), disk.judged());
  EXPECT_EQ(disk.found()->size(), 6u);
  EXPECT_EQ(std::get<0>(disk.found()->back()), 7u);
}

TEST(PartitionTable, AChainThatLeadsBackToItselfEnds) {
  Disk disk(100 * MiB);
  disk.partition("label: dos\\nsize=50M, type=5\\nsize=5M\\nsize=3M\\n");
  const Rows rows = disk.judged();
  const std::uint64_t extended = MiB;
  // The second entry of the first record, which names the next record: this one.
  ASSERT_EQ(disk.bytes(extended + 510, 2), "\x55\xaa");
  disk.overwrite(extended + 446 + 16 + 8, std::string(4, '\0'));
  ASSERT_TRUE(disk.found());
  EXPECT_EQ(disk.found()->front(), rows.front());
}

TEST(PartitionTable, GptCountsByThePlaceInTheTable) {
  Disk disk(100 * MiB);
  disk.partition("label: gpt\\nsize=10M\\nsize=20M\\nsize=30M\\nsize=5M\\n");
  disk.forget_partition(2);
  EXPECT_EQ(disk.found(), disk.judged());
  EXPECT_EQ(std::get<0>(disk.found()->back()), 4u);
}

TEST(PartitionTable, ManyGptEntries) {
  Disk disk(400 * MiB);
  std::string script = "label: gpt\\ntable-length: 512\\n";
  for (unsigned count = 0; count < 300; ++count) script += "size=64K\\n";
  disk.partition(script);
  EXPECT_EQ(disk.found(), disk.judged());
  EXPECT_EQ(disk.found()->size(), 300u);
}

TEST(PartitionTable, WhereTheFirstCopyOfAGptIsDamagedTheSecondCounts) {
  Disk disk(100 * MiB);
  disk.partition("label: gpt\\nsize=10M\\nsize=20M\\n");
  const std::optional<Rows> sound = disk.found();
  disk.overwrite(512 + 16, "xxxx");  // the header's checksum
  EXPECT_EQ(disk.found(), sound);
  disk.overwrite(512, std::string(33 * 512, '\0'));
  EXPECT_EQ(disk.found(), sound);
  EXPECT_EQ(disk.found(), disk.judged());
}

TEST(PartitionTable, AGptWithoutASoundCopyIsNone) {
  Disk disk(100 * MiB);
  disk.partition("label: gpt\\nsize=10M\\n");
  disk.overwrite(512, std::string(33 * 512, '\0'));
  disk.overwrite(100 * MiB - 512, std::string(512, '\0'));
  EXPECT_FALSE(disk.found());
}

TEST(PartitionTable, ADiskThatHasGrownSinceKeepsItsTable) {
  Disk disk(100 * MiB);
  disk.partition("label: gpt\\nsize=10M\\nsize=20M\\n");
  const std::optional<Rows> before = disk.found();
  disk.resize(500 * MiB + 512);
  EXPECT_EQ(disk.found(), before);
}

TEST(PartitionTable, WhatLiesBehindTheEndIsLeftOutOrCutShort) {
  Disk disk(100 * MiB);
  disk.partition("label: dos\\nsize=10M\\nsize=20M\\nsize=30M\\n");
  disk.resize(25 * MiB);
  EXPECT_EQ(disk.found(), (Rows{{1, MiB, 10 * MiB}, {2, 11 * MiB, 14 * MiB}}));
}

TEST(PartitionTable, GptOfSectorsOf4096Bytes) {
  Disk small(100 * MiB);
  small.partition("label: gpt\\nfirst-lba: 256\\nstart=256, size=10000\\nstart=12800, size=4000\\n");
  // The same entries, with a header for larger sectors: only what is between the headers stays as it is. Its checksums
  // do not cover where it lies, but for its own two numbers, and these stay.
  Disk large(100 * MiB);
  large.overwrite(0, small.bytes(0, 512));
  large.overwrite(4096, small.bytes(512, 512));
  large.overwrite(2 * 4096, small.bytes(1024, 128 * 128));
  const std::optional<Rows> found = large.found();
  EXPECT_FALSE(found) << "its end lies behind that of the disk";
  large.resize(800 * MiB);
  EXPECT_EQ(large.found(), (Rows{{1, 256 * 4096u, 10000 * 4096u}, {2, 12800 * 4096u, 4000 * 4096u}}));
}

TEST(PartitionTable, WhatIsNoTable) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{512}, std::uint64_t{4096}, MiB}) {
    EXPECT_FALSE(Disk(size).found()) << size;
  }
  Disk garbage(MiB);
  garbage.overwrite(0, std::string(65536, '\x5a'));
  EXPECT_FALSE(garbage.found());
}

TEST(PartitionTable, AFatBootSectorIsNoTable) {
  Disk disk(64 * MiB);
  std::string sector(512, '\0');
  sector.replace(0, 3, "\xeb\x3c\x90");
  sector.replace(3, 8, "mkfs.fat");
  sector[11] = 0, sector[12] = 2;  // bytes of a sector
  sector[13] = 4, sector[14] = 4;  // sectors of a cluster, reserved ones
  sector[16] = 2, sector[18] = 2;  // copies of the table, entries of the root directory
  sector[21] = '\xf8', sector[22] = 64;
  sector[34] = 2;  // sectors, 32 bits
  sector.replace(54, 8, "FAT16   ");
  sector[510] = '\x55', sector[511] = '\xaa';
  disk.overwrite(0, sector);
  EXPECT_FALSE(disk.found());
}

TEST(PartitionTable, AnEmptyTableIsATable) {
  Disk disk(100 * MiB);
  disk.partition("label: gpt\\n");
  EXPECT_EQ(disk.found(), Rows{});
}

}  // namespace
