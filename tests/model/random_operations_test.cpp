// Claim   Whatever is done to the disk, in whatever order, it reads as a plain array of bytes would that the same was
//         done to; and after every remount QEMU finds the image clean, without leaks, and reads the same bytes.
// Method  Seeded random operations on a real file with real threads, each mirrored in memory. A failing run prints its
//         seed; QCOWFS_SEED repeats it, QCOWFS_OPERATIONS sets how many (default 10000 each). QCOWFS_DOOR=nbd
//         has it on a server, QCOWFS_DOOR=device on a loop device, for which it must be root's.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <random>
#include <string_view>

#include "core/alignment.h"
#include "qcow2/create.h"
#include "tests/support/image_session.h"
#include "tests/support/nbd_server.h"

namespace {

using Bytes = std::vector<std::byte>;

struct Shape {
  std::uint64_t cluster_size;
  qcow2::CompressionType compression;
  std::uint64_t disk_size;
  unsigned refcount_bits = 16;
  bool extended_l2 = false;
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.cluster_size << (shape.compression == qcow2::CompressionType::zlib ? " zlib" : " zstd");
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

constexpr std::uint64_t device_bytes = 1 << 30;

class Model {
 public:
  Model(const Shape& shape, std::uint64_t seed) : shape_(shape), random_(seed), twin_(shape.disk_size) {
    way_ = image_ = folder_.file("image.qcow2");
    qcow2::CreateOptions options;
    options.size = shape.disk_size;
    options.cluster_size = shape.cluster_size;
    options.compression = shape.compression;
    options.refcount_bits = shape.refcount_bits;
    options.extended_l2 = shape.extended_l2;
    qcow2::create_image(image_, options);
    choose_door();
    mount();
  }

  void step() {
    const std::uint64_t dice = below(1000);
    if (dice < 995) {
      use(dice);
    } else if (dice < 998) {
      compact();
    } else {
      remount();
    }
  }

  void remount() {
    session_->close();
    session_.reset();
    // The header counts sectors: a disk that ends within one comes back with the rest of it, as zeros.
    twin_.resize(core::align_up(twin_.size(), 512));
    judge();
    mount();
    check_range(0, twin_.size());
  }

  void finish() {
    check_range(0, twin_.size());
    remount();
    session_->close();
  }

 private:
  void use(std::uint64_t dice) {
    if (dice < 480) {
      write();
    } else if (dice < 780) {
      read();
    } else if (dice < 860) {
      zero();
    } else if (dice < 930) {
      seek();
    } else if (dice < 980) {
      session_->flush();
    } else {
      truncate();
    }
  }

  // Half of the time with all else beside it.
  void compact() {
    core::CompactOrder order;
    if (below(3) == 0) order.recompress_level = static_cast<int>(1 + below(3));
    std::future<void> compacted = session_->start(session_->disk().compact(order));
    for (std::uint64_t i = below(2) * 30; i != 0 && !testing::Test::HasFatalFailure(); --i) use(below(995));
    compacted.get();
  }

  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  }

  void choose_door() {
    const char* const variable = std::getenv("QCOWFS_DOOR");
    const std::string_view door = variable != nullptr ? variable : "file";
    if (door == "file") return;
    std::filesystem::resize_file(image_, device_bytes);
    if (door == "nbd") {
      server_.emplace(image_);
      way_ = server_->uri();
    } else {
      device_.emplace(image_);
      way_ = device_->path();
    }
  }

  void mount() {
    qcow2::ImageOptions options;
    options.cache_size = below(2) == 0 ? 4 << 20 : 96 << 20;
    options.commit_interval_ms = below(2) == 0 ? 20 : 5000;
    options.clean = below(2) == 0 ? qcow2::Cleaning::on : qcow2::Cleaning::idle;
    options.clean_from = 64 << 10;
    options.level = static_cast<int>(below(8) == 0 ? 4 : 1 + below(3));  // 4 is the first of the slow compressor
    session_ = std::make_unique<test::ImageSession>(way_, options, 1 + below(3));
    ASSERT_EQ(session_->disk().size(), twin_.size());
  }

  // Offsets near what is special come up more often than chance would bring them.
  std::uint64_t offset() {
    if (twin_.empty()) return 0;
    std::uint64_t at = below(twin_.size());
    if (below(3) == 0) at = core::align_down(at, 512);
    if (below(3) == 0) at = core::align_down(at, std::min<std::uint64_t>(shape_.cluster_size, 4096));
    if (below(3) == 0) at = core::align_down(at, shape_.cluster_size);
    return at;
  }

  std::uint64_t length() {
    switch (below(6)) {
      case 0: return 1 + below(16);
      case 1: return 512;
      case 2: return 4096;
      case 3: return shape_.cluster_size;
      case 4: return 1 + below(3 * std::min<std::uint64_t>(shape_.cluster_size, 65536));
      default: return 1 + below(shape_.disk_size / 16);
    }
  }

  Bytes content(std::uint64_t size) {
    Bytes bytes(size);
    const std::uint64_t kind = below(4);
    if (kind == 0) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    } else if (kind != 1) {  // else zeros
      const std::uint64_t alphabet = 1 + below(6);
      for (std::byte& byte : bytes) byte = static_cast<std::byte>('a' + random_() % alphabet);
    }
    return bytes;
  }

  void write() {
    const std::uint64_t at = offset();
    std::uint64_t size = length();
    const bool may_grow = below(50) == 0 && at + size <= 2 * shape_.disk_size;
    if (!may_grow) size = std::min(size, twin_.size() - at);
    if (size == 0) return;
    const Bytes bytes = content(size);
    session_->write(at, bytes);
    if (at + size > twin_.size()) twin_.resize(at + size);
    std::copy(bytes.begin(), bytes.end(), twin_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  void read() {
    const std::uint64_t at = offset();
    check_range(at, std::min(length(), twin_.size() - at));
  }

  void check_range(std::uint64_t at, std::uint64_t size) {
    const Bytes got = session_->read(at, size);
    const auto expected = twin_.begin() + static_cast<std::ptrdiff_t>(at);
    const auto different = std::mismatch(got.begin(), got.end(), expected);
    ASSERT_TRUE(different.first == got.end())
        << "byte " << at + static_cast<std::uint64_t>(different.first - got.begin()) << " of [" << at << ", "
        << at + size << ")";
  }

  void zero() {
    const std::uint64_t at = offset();
    const std::uint64_t size = below(20) == 0 ? twin_.size() - at : std::min(length(), twin_.size() - at);
    session_->zero(at, size);
    std::fill_n(twin_.begin() + static_cast<std::ptrdiff_t>(at), size, std::byte{0});
  }

  void truncate() {
    const std::uint64_t size = below(4) == 0 ? 0 : shape_.disk_size / 2 + below(shape_.disk_size);
    session_->resize(size);
    twin_.resize(size);
  }

  // A hole must read as zeros; data may.
  void seek() {
    const std::uint64_t at = offset();
    const std::uint64_t data = session_->next_data(at);
    const std::uint64_t hole = session_->next_hole(at);
    ASSERT_LE(data, twin_.size());
    ASSERT_LE(hole, twin_.size());
    ASSERT_TRUE(data == at || hole == at || twin_.empty());
    for (std::uint64_t i = at; i < data; ++i) ASSERT_EQ(twin_[i], std::byte{0}) << "hole with data at " << i;
  }

  void judge() {
    const std::string raw = folder_.file("twin.raw");
    std::ofstream(raw, std::ios::binary)
        .write(reinterpret_cast<const char*>(twin_.data()), static_cast<std::streamsize>(twin_.size()));
    const auto check = test::run_command("qemu-img check -f qcow2 " + image_);
    ASSERT_EQ(check.status, 0) << check.output;
    if (twin_.empty()) return;
    const auto compare = test::run_command("qemu-img compare -f qcow2 -F raw " + image_ + " " + raw);
    ASSERT_EQ(compare.status, 0) << compare.output;
  }

  Shape shape_;
  std::mt19937_64 random_;
  Bytes twin_;
  test::TemporaryFolder folder_;
  std::string image_;
  std::optional<test::NbdServer> server_;
  std::optional<test::LoopDevice> device_;
  std::string way_;  ///< to the image
  std::unique_ptr<test::ImageSession> session_;
};

class RandomOperations : public testing::TestWithParam<Shape> {};

TEST_P(RandomOperations, LeaveWhatAnArrayOfBytesWouldHold) {
  const std::uint64_t seed = from_environment("QCOWFS_SEED", std::random_device{}());
  const std::uint64_t operations = from_environment("QCOWFS_OPERATIONS", 10000);
  std::cout << "seed " << seed << ", " << operations << " operations\n";
  Model model(GetParam(), seed);
  for (std::uint64_t i = 0; i < operations && !HasFatalFailure(); ++i) {
    model.step();
    if (HasFatalFailure()) FAIL() << "at operation " << i << " of seed " << seed;
  }
  if (!HasFatalFailure()) model.finish();
}

constexpr auto zlib = qcow2::CompressionType::zlib;
constexpr auto zstd = qcow2::CompressionType::zstd;

INSTANTIATE_TEST_SUITE_P(
    Model, RandomOperations,
    testing::Values(
        Shape{512, zlib, 1 << 20}, Shape{512, zstd, 1 << 20}, Shape{4096, zlib, 4 << 20}, Shape{4096, zstd, 4 << 20},
        Shape{65536, zlib, 8 << 20}, Shape{65536, zstd, 8 << 20}, Shape{2097152, zlib, 24 << 20},
        Shape{2097152, zstd, 24 << 20},
        // Narrow counts fill up after a fragment or three; wide ones make blocks and their table grow often.
        Shape{512, zlib, 4 << 20, 64}, Shape{512, zlib, 1 << 20, 1}, Shape{4096, zlib, 4 << 20, 2},
        Shape{65536, zlib, 8 << 20, 1},
        // Two words an entry.
        Shape{16384, zlib, 8 << 20, 16, true}),
    [](const testing::TestParamInfo<Shape>& row) {
      return std::to_string(row.param.cluster_size) +
             (row.param.compression == qcow2::CompressionType::zlib ? "zlib" : "zstd") +
             (row.param.refcount_bits == 16 ? "" : "refcount" + std::to_string(row.param.refcount_bits)) +
             (row.param.extended_l2 ? "extended" : "");
    });

}  // namespace
