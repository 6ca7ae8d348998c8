// Claims   check_image() finds each kind of damage, says where it is, and changes nothing. (That it finds no more and
// no
//          less than qemu-img check is what tests/mount/check_test.py claims.)
// Method   An image that the engine wrote, damaged word by word.
#include "qcow2/check.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "core/big_endian.h"
#include "core/error.h"
#include "core/file_lock.h"
#include "core/unique_fd.h"
#include "qcow2/create.h"
#include "qcow2/format/header.h"
#include "qcow2/format/table_entries.h"
#include "tests/support/image_session.h"
#include "tests/support/open_image.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t cluster_size = 65536;
constexpr std::uint64_t disk_size = 64 * cluster_size;

/// A sound image: two standard clusters, then compressed ones, and a means to write over its words.
class DamagedImage : public testing::Test {
 protected:
  void SetUp() override {
    create_image(path_, {disk_size, cluster_size, 16, compression()});
    test::ImageSession session(path_, {});
    session.write(0, test::random_bytes(2 * cluster_size, 1));
    session.write(2 * cluster_size, test::noise(10 * cluster_size, 2));
    session.close();
    read_tables();
  }

  virtual CompressionType compression() const { return CompressionType::zlib; }

  void read_tables() {
    const auto front = read(0, 512);
    header_ = parse_header(front, path_);
    l2_table_ = word(header_.l1_table.value) & entry_offset_mask;
    refcount_block_ = word(header_.refcount_table.value);
  }

  std::vector<std::byte> read(std::uint64_t at, std::uint64_t length) const {
    std::vector<std::byte> bytes(length);
    std::ifstream stream(path_, std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length));
    return bytes;
  }
  std::uint64_t word(std::uint64_t at) const { return core::load_big_endian<std::uint64_t>(read(at, 8), 0); }
  std::uint64_t entry(std::uint64_t index) const { return word(l2_table_ + index * 8); }

  void write(std::uint64_t at, core::Bytes bytes) {
    std::fstream stream(path_, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  template <class Integer>
  void set(std::uint64_t at, Integer value) {
    std::array<std::byte, sizeof(Integer)> bytes{};
    core::store_big_endian(bytes, 0, value);
    write(at, bytes);
  }
  void set_entry(std::uint64_t index, std::uint64_t value) { set(l2_table_ + index * 8, value); }

  CheckResult check(bool data = false) const { return check_image(path_, {data, 3}).value(); }

  /// Corruptions and leaks, and a problem that has `part` in it.
  void expect(std::uint64_t corruptions, std::uint64_t leaks, const std::string& part, bool data = false) const {
    const CheckResult result = check(data);
    std::string all;
    for (const std::string& problem : result.problems) all += problem + "\n";
    EXPECT_EQ(result.corruptions, corruptions) << all;
    EXPECT_EQ(result.leaks, leaks) << all;
    EXPECT_EQ(result.check_errors, 0u) << all;
    EXPECT_NE(all.find(part), std::string::npos) << part << " not in\n" << all;
  }

  /// The sentence that the check fails with.
  std::string complaint() const {
    try {
      check();
    } catch (const core::Error& error) {
      return core::describe(error);
    }
    return {};
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_.file("disk.qcow2");
  Header header_;
  std::uint64_t l2_table_ = 0;
  std::uint64_t refcount_block_ = 0;
};

TEST_F(DamagedImage, IsSoundAtFirst) {
  const auto before = read(0, std::filesystem::file_size(path_));
  const CheckResult result = check(true);
  EXPECT_EQ(result.corruptions + result.leaks + result.check_errors, 0u);
  EXPECT_EQ(result.total, 64u);
  EXPECT_EQ(result.allocated, 12u);
  EXPECT_EQ(result.compressed, 10u);
  EXPECT_EQ(result.undecodable, std::optional<std::uint64_t>(0));
  EXPECT_TRUE(result.problems.empty());
  EXPECT_LE(result.image_end, core::align_up(before.size(), cluster_size));
  EXPECT_EQ(read(0, std::filesystem::file_size(path_)), before);
}

TEST_F(DamagedImage, CopiedOnACompressedCluster) {
  ASSERT_NE(entry(3) & l2_entry_compressed, 0u);
  set_entry(3, entry(3) | entry_copied);
  expect(1, 0, "guest byte 0x30000: COPIED is set for a compressed cluster");
}

TEST_F(DamagedImage, CopiedContradictsTheRefcount) {
  set_entry(1, entry(1) & ~entry_copied);
  expect(1, 0, "guest byte 0x10000: COPIED is not set, but its refcount is 1");
}

TEST_F(DamagedImage, CopiedOfTheL2TableContradictsItsRefcount) {
  set(header_.l1_table.value, l2_table_);
  expect(1, 0, "L1 entry 0: COPIED is not set, but its table's refcount is 1");
}

TEST_F(DamagedImage, ReservedBits) {
  set_entry(20, std::uint64_t{1} << 57);
  set(header_.l1_table.value, l2_table_ | entry_copied | 2);
  expect(2, 0, "guest byte 0x140000: its entry has reserved bits set");
}

TEST_F(DamagedImage, DataWithinACluster) {
  set_entry(1, entry(1) + 512);
  EXPECT_GE(check().corruptions, 2u) << "the entry, and the cluster behind it that it reaches into";
}

TEST_F(DamagedImage, DataOutsideTheFile) {
  set_entry(1, (std::uint64_t{1} << 40) | entry_copied);
  expect(2, 1, "guest byte 0x10000: its data: at host byte 0x10000000000, outside the file");
}

TEST_F(DamagedImage, FragmentOutsideTheFile) {
  set_entry(20, l2_entry_compressed | ((std::uint64_t{1} << header_.geometry.compressed_size_shift()) - 1));
  expect(1, 0, "guest byte 0x140000: its compressed data", true);
}

TEST_F(DamagedImage, TwoEntriesForOneCluster) {
  set_entry(20, entry(1));
  expect(1, 0, ": refcount 1, but 2 references");
}

TEST_F(DamagedImage, AForgottenEntryLeaks) {
  set_entry(1, 0);
  expect(0, 1, "leaked cluster, refcount 1, but 0 references");
}

TEST_F(DamagedImage, AZeroClusterKeepsItsCluster) {
  set_entry(1, entry(1) | l2_entry_zero);
  expect(0, 0, "");
}

TEST_F(DamagedImage, RefcountTableEntries) {
  const std::uint64_t at = header_.refcount_table.value;
  set(at + 8, std::uint64_t{1} << 50);
  expect(1, 0, "refcount table entry 1: its block lies outside the file");
  set(at + 8, std::uint64_t{5});
  expect(1, 0, "refcount table entry 1: has reserved bits set");
  set(at + 8, refcount_block_);
  EXPECT_GE(check().corruptions, 2u) << "two entries name the block, and it has refcounts for clusters there are not";
}

TEST_F(DamagedImage, ARefcountBlockThatIsNotAligned) {
  set(header_.refcount_table.value, refcount_block_ + 512);
  const CheckResult result = check();
  EXPECT_EQ(result.corruptions, 1u);
  EXPECT_GT(result.check_errors, 5u) << "each cluster of the file";
  EXPECT_EQ(result.problems.size(), 2u);
}

TEST_F(DamagedImage, NoRefcountTable) {
  set(header_field::refcount_table_clusters, std::uint32_t{0});
  expect(check().corruptions, 0, "refcount 0, but 1 reference");
  EXPECT_GT(check().corruptions, 10u);
}

TEST_F(DamagedImage, AnUndecodableFragmentIsNamed) {
  const HostExtent extent = compressed_extent(entry(3), header_.geometry);
  write(extent.at.value, std::vector<std::byte>(16, std::byte{0xff}));
  expect(0, 0, "");
  char sentence[160];
  std::snprintf(sentence, sizeof(sentence),
                "guest byte 0x30000: its compressed data at host byte 0x%llx does not decode",
                static_cast<unsigned long long>(extent.at.value));
  expect(1, 0, sentence, true);
  EXPECT_EQ(check(true).undecodable, std::optional<std::uint64_t>(1));
}

TEST_F(DamagedImage, WhatIsNoImage) {
  std::ofstream(path_, std::ios::trunc) << "text";
  EXPECT_FALSE(check_image(path_, {}).has_value());
  std::ofstream(path_, std::ios::trunc).flush();
  EXPECT_FALSE(check_image(path_, {}).has_value());
}

TEST_F(DamagedImage, UnknownFeaturesAreRefused) {
  set(header_field::incompatible_features, std::uint64_t{1} << 20);
  EXPECT_NE(complaint().find("unknown incompatible feature bit 20"), std::string::npos) << complaint();
}

TEST_F(DamagedImage, AnImageInUseIsRefused) {
  const core::UniqueFd writer(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  core::lock_image(writer.get(), core::Access::read_write, path_);
  EXPECT_NE(complaint().find("in use"), std::string::npos) << complaint();
}

TEST_F(DamagedImage, BitmapsThatCannotBeAreRefused) {
  set(header_field::autoclear_features, std::uint64_t{1});
  const std::uint64_t at = header_.length;
  set(at, std::uint32_t{0x23852875});
  set(at + 4, std::uint32_t{24});
  set(at + 8, std::uint64_t{1} << 32);   // one bitmap
  set(at + 16, std::uint64_t{32});       // bytes of the directory,
  set(at + 24, std::uint64_t{1} << 40);  // which lies outside the file: it reads as zeros
  EXPECT_NE(complaint().find("bitmap ''"), std::string::npos) << complaint();
  set(at + 16, ~std::uint64_t{0});
  EXPECT_NE(complaint().find("impossible size"), std::string::npos) << complaint();
}

// One table of 64 KiB that all bitmaps call their own, in a hole: reading it for each of them would take all day.
TEST_F(DamagedImage, BitmapsThatShareOneTableAreRefused) {
  constexpr std::uint32_t bitmaps = 2000;
  constexpr std::size_t entry_size = 32;
  const std::uint64_t directory = core::align_up(std::filesystem::file_size(path_), cluster_size);
  std::vector<std::byte> entries(bitmaps * entry_size);
  for (std::uint32_t i = 0; i < bitmaps; ++i) {
    const core::MutableBytes entry = core::MutableBytes(entries).subspan(i * entry_size, entry_size);
    core::store_big_endian(entry, 0, std::uint64_t{1} << 30);           // the table,
    core::store_big_endian(entry, 8, std::uint32_t{cluster_size / 8});  // its entries
    core::store_big_endian(entry, 12, std::uint32_t{1});                // in use: its size need not be the disk's
    entry[16] = std::byte{1};
    entry[17] = std::byte{16};
    core::store_big_endian(entry, 18, std::uint16_t{4});
    core::store_big_endian(entry, 24, i);  // as a name
  }
  write(directory, entries);
  std::filesystem::resize_file(path_, std::uint64_t{1} << 31);
  set(header_field::autoclear_features, std::uint64_t{1});
  set(header_.length, std::uint32_t{0x23852875});
  set(header_.length + 4, std::uint32_t{24});
  set(header_.length + 8, std::uint64_t{bitmaps} << 32);
  set(header_.length + 16, std::uint64_t{entries.size()});
  set(header_.length + 24, directory);
  EXPECT_NE(complaint().find("tables of its bitmaps overlap"), std::string::npos) << complaint();
}

TEST_F(DamagedImage, SnapshotsThatCannotBeAreNamed) {
  const std::uint64_t table = core::align_up(std::filesystem::file_size(path_), cluster_size);
  std::filesystem::resize_file(path_, table + cluster_size);
  set(header_field::snapshots, std::uint32_t{1});
  set(header_field::snapshot_table_offset, table);
  set(table, std::uint64_t{512});  // an L1 table within the header
  set(table + 8, std::uint32_t{1});
  set(table + 14, std::uint16_t{3});
  write(table + 40, core::Bytes(std::vector<std::byte>{std::byte{'a'}, std::byte{'\n'}, std::byte{'b'}}));
  // No extra data, a table that is not aligned, and a snapshot table that nobody counted.
  expect(3, 0, "snapshot 'a?b': its L1 table does not start at a cluster");
  set(table + 36, ~std::uint32_t{0});
  EXPECT_NE(complaint().find("too much extra data"), std::string::npos) << complaint();
}

class DamagedZstdImage : public DamagedImage {
  CompressionType compression() const override { return CompressionType::zstd; }
};

TEST_F(DamagedZstdImage, EveryFragmentIsDecoded) {
  expect(0, 0, "", true);
  for (std::uint64_t index = 2; index < 12; ++index) {
    const HostExtent extent = compressed_extent(entry(index), header_.geometry);
    write(extent.at.value, std::vector<std::byte>(4, std::byte{0}));
  }
  expect(10, 0, "guest byte 0xb0000: its compressed data", true);
}

}  // namespace
}  // namespace qcow2
