// Claim   What an image says of its external data file becomes durable after the file's bytes; what fails there is
// told. Method  A whole image on two scripted files, one thread: one test is one history.
#include "qcow2/host/data_file.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "core/big_endian.h"
#include "qcow2/format/header.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/image.h"
#include "tests/support/open_image.h"

namespace {

using Kind = test::ScriptedFile::Kind;
using test::Bytes;
using test::noise;

constexpr std::uint64_t cluster = test::OpenImage::cluster;
constexpr std::uint64_t disk_size = test::OpenImage::disk_size;

// The empty image, made to say that its data are elsewhere.
Bytes empty_image(std::uint64_t autoclear) {
  Bytes bytes = test::empty_image();
  const core::MutableBytes head(bytes);
  core::store_big_endian(head, qcow2::header_field::incompatible_features, qcow2::incompatible::external_data_file);
  core::store_big_endian(head, qcow2::header_field::autoclear_features, autoclear);
  const std::size_t extension = qcow2::header_length_written;
  core::store_big_endian(head, extension, qcow2::extension::data_file_name);
  core::store_big_endian(head, extension + 4, std::uint32_t{4});
  core::store_big_endian(head, extension + 8, std::uint32_t{0x64617461});
  core::store_big_endian(head, extension + 16, std::uint64_t{0});
  return bytes;
}

// Lends a file to whoever wants to own one.
class Lent final : public core::BlockFile {
 public:
  explicit Lent(core::BlockFile& file) : file_(file) {}
  std::size_t block_size() const override { return file_.block_size(); }
  std::uint64_t size() const override { return file_.size(); }
  std::optional<std::uint64_t> allocated_bytes() const override { return file_.allocated_bytes(); }
  core::Awaitable<void> read_at(core::FileOffset at, core::MutableBytes target) override {
    return file_.read_at(at, target);
  }
  core::Awaitable<void> write_at(core::FileOffset at, std::span<const core::Bytes> pieces) override {
    return file_.write_at(at, pieces);
  }
  core::Awaitable<void> barrier() override { return file_.barrier(); }
  core::Awaitable<void> truncate(std::uint64_t size) override { return file_.truncate(size); }
  core::Awaitable<bool> reserve(core::FileOffset at, std::uint64_t length) override {
    return file_.reserve(at, length);
  }
  core::Awaitable<bool> punch(core::FileOffset at, std::uint64_t length) override { return file_.punch(at, length); }

 private:
  core::BlockFile& file_;
};

class DataFile : public testing::Test {
 protected:
  void open(std::uint64_t autoclear = 0) {
    image.set_content(0, empty_image(autoclear));
    qcow2::ImageOptions options;
    options.open_data_file = [this](const std::string& name) {
      EXPECT_EQ(name, "data");
      return std::make_unique<Lent>(data);
    };
    disk = test::run(engine, qcow2::open_image(engine, image, options));
  }
  ~DataFile() override {
    try {
      if (disk) test::run(engine, disk->close());
    } catch (const core::Error&) {  // told to the test before
    }
  }

  core::Awaitable<void> writing(std::uint64_t at, const Bytes& bytes) {
    const auto buffer = std::make_shared<core::Buffer>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer->data());
    return disk->write(core::DiskOffset{at}, core::SharedBytes(buffer));
  }
  void write(std::uint64_t at, const Bytes& bytes) { test::run(engine, writing(at, bytes)); }
  void flush() { test::run(engine, disk->flush()); }
  Bytes read(std::uint64_t at, std::uint64_t size) {
    Bytes bytes(size);
    test::run(engine, disk->read(core::DiskOffset{at}, bytes));
    return bytes;
  }
  // What the image file says of guest cluster 0, as far as it has been written.
  std::uint64_t first_entry_in_file() const {
    const Bytes head = image.content(0, 512);
    const std::uint64_t l1_at = core::load_big_endian<std::uint64_t>(head, qcow2::header_field::l1_table_offset);
    const std::uint64_t l1 = core::load_big_endian<std::uint64_t>(image.content(l1_at, 8), 0);
    const std::uint64_t table = l1 & qcow2::entry_offset_mask;
    return table == 0 ? 0 : core::load_big_endian<std::uint64_t>(image.content(table, 8), 0);
  }

  test::TestEngine engine;
  test::ScriptedFile image{engine};
  test::ScriptedFile data{engine};
  std::unique_ptr<core::GuestDisk> disk;
};

TEST_F(DataFile, HasTheBytesAtTheirGuestOffset) {
  open();
  const Bytes bytes = noise(2 * cluster, 1);
  write(3 * cluster + 512, bytes);
  flush();
  EXPECT_TRUE(data.content_is(3 * cluster + 512, bytes));
  EXPECT_EQ(read(3 * cluster + 512, bytes.size()), bytes);
  EXPECT_LT(image.size(), 8 * cluster) << "tables only";
}

TEST_F(DataFile, NothingNamesItsBytesBeforeTheyAreDurable) {
  open();
  data.hold(Kind::barrier);
  write(0, noise(cluster, 1));
  const auto flushed = test::start(engine, disk->flush());
  EXPECT_EQ(data.held(Kind::barrier), 1u);
  EXPECT_EQ(first_entry_in_file(), 0u);
  EXPECT_FALSE(flushed.done());
  data.release(Kind::barrier);
  flushed.get();
  EXPECT_EQ(first_entry_in_file(), qcow2::entry_copied) << "offset 0, and allocated";
}

TEST_F(DataFile, AnOverwriteIsDurableWithItsBarrierAndChangesNoTable) {
  open();
  write(0, noise(cluster, 1));
  flush();
  const std::size_t writes = image.count(Kind::write);
  write(512, noise(512, 2));
  data.hold(Kind::barrier);
  const auto flushed = test::start(engine, disk->flush());
  EXPECT_TRUE(data.content_is(512, noise(512, 2)));
  EXPECT_FALSE(flushed.done());
  data.release(Kind::barrier);
  flushed.get();
  EXPECT_EQ(image.count(Kind::write), writes);
}

TEST_F(DataFile, ZerosArePunchedThereOnceThereIsSomething) {
  open();
  test::run(engine, disk->zero(core::DiskOffset{0}, disk_size));
  flush();
  EXPECT_EQ(data.count(Kind::punch) + data.count(Kind::write), 0u);
  write(0, noise(2 * cluster, 1));
  flush();
  test::run(engine, disk->zero(core::DiskOffset{0}, cluster));
  flush();
  EXPECT_TRUE(data.content_is(0, Bytes(cluster)));
  EXPECT_EQ(first_entry_in_file(), qcow2::entry_copied) << "it keeps its place";
  EXPECT_EQ(read(0, cluster), Bytes(cluster));
  EXPECT_EQ(data.count(Kind::punch), 1u);
}

TEST_F(DataFile, ARawOneShowsZerosWhereverTheDiskDoes) {
  open(qcow2::autoclear::raw_external_data);
  data.set_content(0, noise(cluster, 7));  // of a write that was never made durable
  test::run(engine, disk->zero(core::DiskOffset{0}, cluster));
  flush();
  EXPECT_TRUE(data.content_is(0, Bytes(cluster)));
  const Bytes head = image.content(0, 512);
  EXPECT_EQ(core::load_big_endian<std::uint64_t>(head, qcow2::header_field::autoclear_features),
            qcow2::autoclear::raw_external_data);
}

TEST_F(DataFile, AReaderThatPutsAClusterTogetherIsNotOvertaken) {
  open();
  write(0, noise(cluster, 1));
  flush();
  write(0, noise(512, 2));
  data.hold(Kind::read);
  Bytes seen(1024);
  const auto reading = test::start(engine, disk->read(core::DiskOffset{0}, seen));
  EXPECT_EQ(data.held(Kind::read), 1u);
  write(0, noise(cluster, 3));
  const std::size_t writes = data.count(Kind::write);
  const auto flushed = test::start(engine, disk->flush());
  EXPECT_EQ(data.count(Kind::write), writes) << "the reader still needs the old bytes";
  data.release(Kind::read);
  reading.get();
  flushed.get();
  Bytes expected = noise(cluster, 1);
  const Bytes newer = noise(512, 2);
  std::copy(newer.begin(), newer.end(), expected.begin());
  expected.resize(1024);
  EXPECT_EQ(seen, expected);
  EXPECT_TRUE(data.content_is(0, noise(cluster, 3)));
}

TEST_F(DataFile, AnErrorOfItsIsToldAndStays) {
  for (const Kind kind : {Kind::write, Kind::barrier}) {
    open();
    data.fail(kind, data.count(kind), EIO);
    write(0, noise(cluster, 1));
    EXPECT_THROW(flush(), core::Error);
    EXPECT_THROW(flush(), core::Error);
    EXPECT_THROW(test::run(engine, disk->close()), core::Error);
    disk.reset();
    EXPECT_EQ(first_entry_in_file(), 0u);
  }
}

TEST_F(DataFile, IsAsLongAsTheDisk) {
  open();
  write(0, noise(cluster, 1));
  test::run(engine, disk->resize(disk_size + 512));
  test::run(engine, disk->resize(disk_size / 2));
  test::run(engine, disk->resize(disk_size));
  test::run(engine, disk->close());
  disk.reset();
  EXPECT_EQ(data.size(), disk_size);
}

}  // namespace
