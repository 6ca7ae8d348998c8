// Claims   What create_image() makes is an empty qcow2 image without a flaw, at every size that the format
// can express,
//          or nothing at all. read_info() says what an image is, also of one that is not served.
// Method   A matrix of geometries, judged by the bytes themselves and by qemu-img; headers patched to say
// anything.
#include "qcow2/create.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/codec/codec.h"
#include "qcow2/format/header.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/info.h"
#include "qcow2/offline/image_map.h"

namespace qcow2 {
namespace {

namespace filesystem = std::filesystem;

constexpr std::uint64_t mebi = 1ull << 20;
constexpr std::uint64_t gibi = 1ull << 30;

/// A directory of the test's own, gone with it.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (filesystem::temp_directory_path() / "create_test_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no scratch directory");
    path_ = pattern;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ / name; }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(filesystem::directory_iterator(path_), filesystem::directory_iterator()));
  }

 private:
  filesystem::path path_;
};

std::vector<std::byte> front_of(const std::string& path, std::uint64_t length) {
  std::ifstream stream(path, std::ios::binary);
  std::vector<std::byte> bytes(std::min<std::uint64_t>(length, filesystem::file_size(path)));
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

template <class Integer>
void patch(const std::string& path, std::size_t offset, Integer value) {
  std::array<std::byte, sizeof(Integer)> bytes{};
  core::store_big_endian(bytes, 0, value);
  std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.write(reinterpret_cast<const char*>(bytes.data()), sizeof(Integer));
}

/// The sentence that `action` fails with, or nothing.
template <class Action>
std::string complaint(Action action) {
  try {
    action();
  } catch (const core::Error& error) {
    return core::describe(error);
  }
  return {};
}

struct Program {
  int exit_status = -1;
  std::string output;
};

Program run(const std::string& command) {
  Program program;
  std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return program;
  std::array<char, 4096> chunk{};
  while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), pipe)) {
    program.output.append(chunk.data(), got);
  }
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) program.exit_status = WEXITSTATUS(status);
  return program;
}

bool have_qemu_img() { return run("qemu-img --version").exit_status == 0; }

std::string described(const CreateOptions& options) {
  return std::to_string(options.size) + " bytes in clusters of " + std::to_string(options.cluster_size) + ", " +
         std::to_string(options.refcount_bits) + "-bit refcounts, " +
         (options.compression == CompressionType::zstd ? "zstd" : "zlib");
}

std::uint64_t largest_disk(std::uint64_t cluster_size) {
  return l1_table_bytes_max / 8 * (cluster_size / 8) * cluster_size;
}

/// Every cluster size with every refcount width, the sizes of interest, the two types in turn.
template <class Judge>
void for_each_geometry(Judge judge) {
  bool zstd = false;
  for (const std::uint64_t cluster_size : {512u, 1024u, 4096u, 65536u, 2097152u}) {
    for (unsigned refcount_bits = 1; refcount_bits <= 64; refcount_bits *= 2) {
      for (const std::uint64_t size : {std::uint64_t{0}, 10 * mebi + 1, 100 * gibi, largest_disk(cluster_size)}) {
        const CreateOptions options{size, cluster_size, refcount_bits,
                                    zstd ? CompressionType::zstd : CompressionType::zlib};
        zstd = !zstd;
        SCOPED_TRACE(described(options));
        judge(options);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// ---- create ----

/// `image` reaches at least to the L1 table, which comes last.
void expect_each_cluster_counted_once(const std::vector<std::byte>& image, const Header& header,
                                      std::uint64_t clusters) {
  const Geometry& geometry = header.geometry;
  const core::Bytes table = core::Bytes(image).subspan(header.refcount_table.value);
  for (std::uint64_t cluster = 0; cluster < clusters; ++cluster) {
    const std::uint64_t block = cluster / geometry.refcounts_per_block();
    ASSERT_LT(block * 8, header.refcount_table_clusters * geometry.cluster_size());
    const auto at = core::load_big_endian<std::uint64_t>(table, block * 8);
    ASSERT_NE(at, 0u);
    ASSERT_TRUE(geometry.is_cluster_aligned(HostOffset{at}));
    const core::Bytes refcounts = core::Bytes(image).subspan(at, geometry.cluster_size());
    const std::uint64_t index = cluster % geometry.refcounts_per_block();
    ASSERT_EQ(get_refcount(refcounts, index, geometry.refcount_order), 1u) << "cluster " << cluster;
    if (cluster + 1 < clusters) continue;
    std::uint64_t beyond = index + 1;
    for (; (beyond << geometry.refcount_order) % 8 != 0; ++beyond) {
      ASSERT_EQ(get_refcount(refcounts, beyond, geometry.refcount_order), 0u) << "beyond the file";
    }
    ASSERT_TRUE(is_all_zero(refcounts.subspan((beyond << geometry.refcount_order) / 8))) << "beyond the file";
  }
}

TEST(Create, CountsEveryClusterOnceAndNoneBeyond) {
  const Scratch scratch;
  for_each_geometry([&](const CreateOptions& options) {
    const std::string path = scratch.file("image");
    create_image(path, options);
    const Header header = parse_header(front_of(path, header_bytes_switched), path);
    const std::uint64_t file_size = filesystem::file_size(path);
    EXPECT_EQ(header.version, 3u);
    EXPECT_EQ(header.length, 112u);
    EXPECT_EQ(header.compression, options.compression);
    EXPECT_EQ(header.incompatible_features, options.compression == CompressionType::zstd ? 8u : 0u);
    EXPECT_EQ(header.size, core::align_up(options.size, 512));
    EXPECT_EQ(header.geometry.cluster_size(), options.cluster_size);
    EXPECT_EQ(header.geometry.refcount_bits(), options.refcount_bits);
    EXPECT_GE(header.l1_entries, 1u);
    EXPECT_LE(header.l1_table.value + header.l1_entries * 8, file_size);
    EXPECT_EQ(file_size % options.cluster_size, 0u);
    expect_each_cluster_counted_once(front_of(path, header.l1_table.value), header, file_size / options.cluster_size);
    filesystem::remove(path);
  });
}

TEST(Create, SatisfiesQemuImg) {
  if (!have_qemu_img()) GTEST_SKIP() << "qemu-img is not installed: NOTHING WAS CHECKED AGAINST QEMU";
  const Scratch scratch;
  for_each_geometry([&](const CreateOptions& options) {
    const std::string path = scratch.file("image");
    create_image(path, options);
    const Program check = run("qemu-img check -f qcow2 " + path);
    ASSERT_EQ(check.exit_status, 0) << check.output;
    const Program info = run("qemu-img info -f qcow2 --output=json " + path);
    ASSERT_EQ(info.exit_status, 0) << info.output;
    const auto says = [&](const std::string& line) {
      EXPECT_NE(info.output.find(line), std::string::npos) << line << " not in\n" << info.output;
    };
    says("\"virtual-size\": " + std::to_string(core::align_up(options.size, 512)) + ",");
    says("\"cluster-size\": " + std::to_string(options.cluster_size) + ",");
    says("\"refcount-bits\": " + std::to_string(options.refcount_bits));
    says(options.compression == CompressionType::zstd ? "\"compression-type\": \"zstd\""
                                                      : "\"compression-type\": \"zlib\"");
    filesystem::remove(path);
  });
}

TEST(Create, MakesImagesThatQemuCanWriteAndRead) {
  if (!have_qemu_img()) GTEST_SKIP() << "qemu-img is not installed: NOTHING WAS CHECKED AGAINST QEMU";
  const Scratch scratch;
  for (const std::uint64_t cluster_size : {512u, 65536u, 2097152u}) {
    const CreateOptions options{8 * mebi, cluster_size, 16, CompressionType::zlib};
    SCOPED_TRACE(described(options));
    const std::string path = scratch.file(std::to_string(cluster_size));
    create_image(path, options);
    const Program io = run("qemu-io -f qcow2 -c 'write -P 7 3M 2M' -c 'read -P 7 3M 2M' -c 'read -P 0 0 3M' " + path);
    EXPECT_EQ(io.exit_status, 0) << io.output;
    EXPECT_EQ(run("qemu-img check -f qcow2 " + path).exit_status, 0);
  }
}

/// All that an image's map says.
struct Extents : MapVisitor {
  std::vector<MapExtent> all;
  explicit Extents(const std::string& path) { ImageMap(path).walk(*this); }
  void extent(const MapExtent& extent) override { all.push_back(extent); }
  void used(HostUse, HostExtent) override {}
};

template <class Judge>
void for_each_preallocation(Judge judge) {
  for (const std::uint64_t cluster_size : {512u, 65536u, 2097152u}) {
    for (const unsigned refcount_bits : {1u, 16u, 64u}) {
      for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, 3 * mebi + 1, 40 * mebi}) {
        for (const Preallocation how : {Preallocation::metadata, Preallocation::falloc, Preallocation::full}) {
          CreateOptions options{size, cluster_size, refcount_bits, CompressionType::zlib};
          options.preallocation = how;
          SCOPED_TRACE(described(options) + ", preallocation " + std::to_string(static_cast<int>(how)));
          judge(options);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Create, PreallocatesEveryClusterOneBehindTheOther) {
  const Scratch scratch;
  for_each_preallocation([&](const CreateOptions& options) {
    const std::string path = scratch.file("image");
    create_image(path, options);
    const std::uint64_t file_size = filesystem::file_size(path);
    const Header header = parse_header(front_of(path, header_bytes_switched), path);
    const std::uint64_t data = core::align_up(options.size, options.cluster_size);
    expect_each_cluster_counted_once(front_of(path, header.l1_table.value), header, file_size / options.cluster_size);

    std::uint64_t told = 0;
    for (const MapExtent& extent : Extents(path).all) {
      EXPECT_EQ(extent.kind, ExtentKind::standard);
      ASSERT_TRUE(extent.host);
      EXPECT_EQ(extent.host->value, file_size - data + extent.start);
      told += extent.length;
    }
    EXPECT_EQ(told, core::align_up(options.size, 512));
    const std::uint64_t taken = read_info(path).allocated_size;
    if (options.preallocation != Preallocation::metadata) {
      EXPECT_GE(taken, data);
    } else if (data > 16 * mebi) {
      EXPECT_LT(taken, data / 4);
    }
    filesystem::remove(path);
  });
}

TEST(Create, PreallocatedImagesSatisfyQemuImg) {
  if (!have_qemu_img()) GTEST_SKIP() << "qemu-img is not installed: NOTHING WAS CHECKED AGAINST QEMU";
  const Scratch scratch;
  for_each_preallocation([&](const CreateOptions& options) {
    const std::string path = scratch.file("image");
    create_image(path, options);
    const Program check = run("qemu-img check -f qcow2 " + path);
    EXPECT_EQ(check.exit_status, 0) << check.output;
    filesystem::remove(path);
  });
}

TEST(Create, TellsHowFarPreallocationHasCome) {
  const Scratch scratch;
  for (const Preallocation how : {Preallocation::metadata, Preallocation::falloc, Preallocation::full}) {
    std::vector<std::uint64_t> positions;
    CreateOptions options{40 * mebi, 512};
    options.preallocation = how;
    const std::string path = scratch.file(std::to_string(static_cast<int>(how)));
    std::uint64_t end = 0;
    create_image(path, options, [&](std::uint64_t position, std::uint64_t all) {
      positions.push_back(position);
      end = all;
    });
    ASSERT_FALSE(positions.empty());
    EXPECT_EQ(*std::max_element(positions.begin(), positions.end()), end);
    EXPECT_EQ(end, filesystem::file_size(path) - (how == Preallocation::metadata ? 40 * mebi : 0));
  }
}

TEST(Create, RefusesToPreallocateWhatItCannot) {
  const Scratch scratch;
  const auto refusal = [&](CreateOptions options) {
    options.preallocation = Preallocation::metadata;
    return complaint([&] { create_image(scratch.file("image"), options); });
  };
  EXPECT_EQ(refusal({.size = mebi, .backing = BackingReference{"base", "raw"}}),
            "an image with a backing file cannot be preallocated: its clusters would hide that file");
  EXPECT_EQ(refusal({.size = 128 * gibi, .cluster_size = 512}),
            "a disk of 128 GiB is too large to be preallocated in clusters of 512 bytes with refcounts of 16 bits");
  EXPECT_EQ(refusal({.size = largest_disk(2 * mebi), .cluster_size = 2 * mebi, .refcount_bits = 1}),
            "a disk of 2 EiB is too large to be preallocated in clusters of 2 MiB with refcounts of 1 bits");
  EXPECT_EQ(scratch.files(), 0u);
}

TEST(Create, CallsTheImageWhatItIsToldTo) {
  const Scratch scratch;
  CreateOptions options{mebi};
  options.name = "the image";
  EXPECT_EQ(complaint([&] { create_image(scratch.file("missing/file"), options); }),
            "the image: cannot be created: No such file or directory");
}

TEST(Create, RoundsTheSizeUpToWholeSectors) {
  const Scratch scratch;
  for (const std::uint64_t size : {0u, 1u, 511u, 512u, 513u}) {
    const std::string path = scratch.file(std::to_string(size));
    create_image(path, {.size = size});
    EXPECT_EQ(read_info(path).virtual_size, core::align_up(size, 512));
  }
}

TEST(Create, WritesNoZeros) {
  const Scratch scratch;
  const std::string path = scratch.file("image");
  create_image(path, {.size = 128 * gibi, .cluster_size = 512});
  const ImageInfo info = read_info(path);
  EXPECT_GT(info.file_size, 32 * mebi);
  EXPECT_LT(info.allocated_size, mebi);
}

TEST(Create, RefusesAnExistingFileAndLeavesItAlone) {
  const Scratch scratch;
  const std::string path = scratch.file("precious");
  std::ofstream(path) << "data";
  EXPECT_EQ(complaint([&] { create_image(path, {.size = mebi}); }), path + ": already exists; remove it first");
  EXPECT_EQ(filesystem::file_size(path), 4u);

  const std::string link = scratch.file("link");
  filesystem::create_symlink(scratch.file("nowhere"), link);
  EXPECT_EQ(complaint([&] { create_image(link, {.size = mebi}); }), link + ": already exists; remove it first");
  EXPECT_EQ(scratch.files(), 2u);
}

TEST(Create, LeavesNothingBehindWhereItFails) {
  const Scratch scratch;
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  // The first limit stops the file from being stretched; block devices and quotas stop the writes, as this
  // cannot.
  const struct rlimit small { 4096, before.rlim_max };
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string sentence = complaint([&] { create_image(scratch.file("image"), {.size = mebi}); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_NE(sentence.find("image: cannot be written: "), std::string::npos) << sentence;
  EXPECT_EQ(scratch.files(), 0u);
}

TEST(Create, NamesThePathThatItCannotCreate) {
  const Scratch scratch;
  const std::string path = scratch.file("missing/image");
  EXPECT_EQ(complaint([&] { create_image(path, {.size = mebi}); }),
            path + ": cannot be created: No such file or directory");
}

TEST(Create, RefusesWhatTheFormatCannotExpressAndNamesTheLimit) {
  const Scratch scratch;
  const auto refusal = [&](const CreateOptions& options) {
    return complaint([&] { create_image(scratch.file("image"), options); });
  };
  const std::string cluster_sizes = "the cluster size must be a power of two from 512 bytes to 2 MiB, not ";
  EXPECT_EQ(refusal({.cluster_size = 0}), cluster_sizes + "0 bytes");
  EXPECT_EQ(refusal({.cluster_size = 256}), cluster_sizes + "256 bytes");
  EXPECT_EQ(refusal({.cluster_size = 65535}), cluster_sizes + "65535 bytes");
  EXPECT_EQ(refusal({.cluster_size = 4 * mebi}), cluster_sizes + "4 MiB");
  const std::string widths = "a refcount must be 1, 2, 4, 8, 16, 32 or 64 bits wide, not ";
  for (const unsigned bits : {0u, 3u, 128u}) {
    EXPECT_EQ(refusal({.refcount_bits = bits}), widths + std::to_string(bits));
  }
  EXPECT_EQ(refusal({.size = 129 * gibi, .cluster_size = 512}),
            "a disk with clusters of 512 bytes can have at most 128 GiB, not 129 GiB");
  EXPECT_EQ(refusal({.size = (2ull << 50) + 1}),
            "a disk with clusters of 64 KiB can have at most 2 PiB, not 2251799813685249 bytes");
  EXPECT_EQ(refusal({.size = ~0ull, .cluster_size = 2 * mebi}),
            "a disk with clusters of 2 MiB can have at most 2 EiB, not 18446744073709551615 bytes");
  EXPECT_EQ(scratch.files(), 0u);
}

// ---- info ----

class Info : public testing::Test {
 protected:
  std::string make_image(const CreateOptions& options = {.size = 10 * mebi}) {
    std::string path = scratch.file("image");
    create_image(path, options);
    return path;
  }
  Scratch scratch;
};

TEST_F(Info, TellsWhatWasCreated) {
  const std::string path = make_image({10 * mebi, 4096, 64, CompressionType::zstd});
  const ImageInfo info = read_info(path);
  EXPECT_EQ(info.path, path);
  EXPECT_EQ(info.version, 3u);
  EXPECT_EQ(info.virtual_size, 10 * mebi);
  EXPECT_EQ(info.file_size, filesystem::file_size(path));
  EXPECT_GT(info.allocated_size, 0u);
  EXPECT_EQ(info.cluster_size, 4096u);
  EXPECT_EQ(info.refcount_bits, 64u);
  EXPECT_EQ(info.compression, CompressionType::zstd);
  EXPECT_EQ(info.backing_file, "");
  EXPECT_TRUE(info.snapshots.empty());
  EXPECT_FALSE(info.dirty || info.corrupt || info.lazy_refcounts || info.extended_l2 || info.external_data_file ||
               info.encrypted);
}

TEST_F(Info, TellsEachFeatureByItself) {
  struct Row {
    std::size_t offset;
    std::uint64_t value;
    bool ImageInfo::*told;
  };
  const Row rows[] = {
      {header_field::incompatible_features, incompatible::dirty, &ImageInfo::dirty},
      {header_field::incompatible_features, incompatible::corrupt, &ImageInfo::corrupt},
      {header_field::incompatible_features, incompatible::external_data_file, &ImageInfo::external_data_file},
      {header_field::incompatible_features, incompatible::extended_l2, &ImageInfo::extended_l2},
      {header_field::compatible_features, compatible::lazy_refcounts, &ImageInfo::lazy_refcounts},
  };
  const std::string path = make_image();
  for (const Row& row : rows) {
    patch(path, row.offset, row.value);
    const ImageInfo info = read_info(path);
    for (const Row& other : rows) EXPECT_EQ(info.*other.told, other.told == row.told);
    patch(path, row.offset, std::uint64_t{0});
  }
  patch(path, header_field::crypt_method, std::uint32_t{2});
  EXPECT_TRUE(read_info(path).encrypted);
}

TEST_F(Info, TellsOfFeaturesThatNobodyDefined) {
  const std::string path = make_image();
  patch(path, header_field::incompatible_features, 1ull << 40);
  EXPECT_EQ(read_info(path).virtual_size, 10 * mebi);
}

TEST_F(Info, ReadsTheNamedFilesName) {
  const std::string path = make_image();
  patch(path, header_field::backing_file_offset, std::uint64_t{600});
  patch(path, header_field::backing_file_size, std::uint32_t{3});
  std::fstream(path, std::ios::binary | std::ios::in | std::ios::out).seekp(600).write("abcdef", 6);
  EXPECT_EQ(read_info(path).backing_file, "abc");
  EXPECT_EQ(read_info(path).backing_path, filesystem::path(path).parent_path() / "abc");
  filesystem::resize_file(path, 601);
  EXPECT_EQ(complaint([&] { read_info(path); }), path + ": the backing file name lies too far back");
}

TEST_F(Info, LeavesOutTheFractionOfASector) {
  const std::string path = make_image();
  patch(path, header_field::size, std::uint64_t{mebi + 300});
  EXPECT_EQ(read_info(path).virtual_size, mebi);
}

TEST_F(Info, AgreesWithQemuImgOnItsOwnImages) {
  if (!have_qemu_img()) GTEST_SKIP() << "qemu-img is not installed: NOTHING WAS CHECKED AGAINST QEMU";
  const auto made_by_qemu = [&](const std::string& options, const std::string& rest) {
    const std::string path = scratch.file("made_by_qemu");
    filesystem::remove(path);
    const Program create = run("qemu-img create -f qcow2 -o " + options + " " + rest + " " + path + " 5M");
    EXPECT_EQ(create.exit_status, 0) << create.output;
    return read_info(path);
  };
  EXPECT_EQ(made_by_qemu("compat=0.10", "").version, 2u);
  EXPECT_EQ(made_by_qemu("compat=0.10", "").refcount_bits, 16u);
  EXPECT_EQ(made_by_qemu("compat=1.1", "").virtual_size, 5 * mebi);
  EXPECT_EQ(made_by_qemu("compression_type=zstd", "").compression, CompressionType::zstd);
  EXPECT_TRUE(made_by_qemu("extended_l2=on", "").extended_l2);
  EXPECT_TRUE(made_by_qemu("lazy_refcounts=on", "").lazy_refcounts);
  EXPECT_EQ(made_by_qemu("cluster_size=2M", "-u -F raw -b /no/such/file").backing_file, "/no/such/file");
}

TEST_F(Info, RefusesWhatIsNoImage) {
  const std::string path = scratch.file("other");
  for (const std::string& text : {std::string(), std::string("QFI"), std::string(4096, 'x')}) {
    std::ofstream(path) << text;
    EXPECT_EQ(complaint([&] { read_info(path); }), path + ": not a qcow2 image");
  }
  EXPECT_NE(complaint([&] { read_info(scratch.file("missing")); }), "");
  EXPECT_NE(complaint([&] { read_info(scratch.file(".")); }), "");
}

TEST_F(Info, RefusesAHeaderThatIsCutOff) {
  const std::string path = make_image();
  for (const std::uintmax_t length : {104u, 71u, 8u}) {
    filesystem::resize_file(path, length);
    EXPECT_EQ(complaint([&] { read_info(path); }), path + ": the file ends within the qcow2 header");
  }
}

TEST_F(Info, DoesNotWaitForANamedPipe) {
  const std::string path = scratch.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(complaint([&] { read_info(path); }), path + ": neither a file nor a block device");
}

}  // namespace
}  // namespace qcow2
