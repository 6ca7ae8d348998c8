// Claim   The walker judges images as qemu-img check does, and reads in them what was written.
// Method  Images made by qemu-img, damaged one field at a time; both judges are asked about each.
#include "tests/crash/image_walker.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/big_endian.h"
#include "tests/crash/qemu_judge.h"
#include "tests/crash/scratch.h"

namespace {

using crash::Image;

constexpr std::uint64_t cluster = 4096;

// Half of the disk is written: compressed, standard or both.
Image make_image(const std::string& options, const std::string& writes) {
  const crash::ScratchFile file("walker");
  const std::string command = "qemu-img create -q -f qcow2 -o cluster_size=4096," + options + " '" + file.path() +
                              "' 256k && qemu-io -f qcow2 " + writes + " '" + file.path() + "' >/dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  return file.read();
}

const std::string compressed = "-c 'write -c -P 1 0 4k' -c 'write -c -P 2 4k 4k' -c 'write -c -P 3 128k 4k'";
const std::string standard = "-c 'write -P 1 0 16k' -c 'write -P 2 64k 4k' -c 'write -z 80k 8k'";

std::uint64_t get(const Image& image, std::uint64_t at) { return core::load_big_endian<std::uint64_t>(image, at); }
void set(Image& image, std::uint64_t at, std::uint64_t value) {
  core::store_big_endian(core::MutableBytes(image), at, value);
}
std::uint64_t l1_at(const Image& image) { return get(image, 40); }
std::uint64_t l2_at(const Image& image) { return get(image, l1_at(image)) & 0x00fffffffffffe00ull; }
std::uint64_t refcounts_at(const Image& image) { return get(image, get(image, 48)); }

// What qemu-img check would exit with.
int verdict(const Image& image) {
  crash::FragmentDecoder decoder;
  crash::ImageWalker walker(decoder);
  const crash::Walk walk = walker.walk(image);
  if (!walk.clean()) return 2;
  return walk.leaks != 0 ? 3 : 0;
}

int qemu_verdict(const Image& image) {
  const crash::ScratchFile file("judged");
  file.write(image);
  return crash::qemu_check(file.path());
}

void expect_both(const Image& image, int expected, const char* what) {
  EXPECT_EQ(qemu_verdict(image), expected) << what;
  EXPECT_EQ(verdict(image), expected) << what;
}

TEST(ImageWalker, ReadsWhatQemuWrote) {
  for (const std::string options : {"compression_type=zlib", "compression_type=zstd", "refcount_bits=1"}) {
    for (const std::string& writes : {compressed, standard}) {
      if (options == "refcount_bits=1" && writes == compressed) continue;  // two fragments cannot share a cluster
      const Image image = make_image(options, writes);
      crash::FragmentDecoder decoder;
      crash::ImageWalker walker(decoder);
      const crash::Walk walk = walker.walk(image);
      EXPECT_TRUE(walk.clean()) << (walk.wrong.empty() ? "" : walk.wrong.front());
      EXPECT_EQ(crash::ask_qemu(image, walk, decoder), "");
      EXPECT_EQ(walk.disk_size, 256u << 10);
    }
  }
}

TEST(ImageWalker, JudgesDamagedCountsAsQemuDoes) {
  Image image = make_image("refcount_bits=64", standard);
  expect_both(image, 0, "as it was made");
  const std::uint64_t counts = refcounts_at(image);
  const std::uint64_t data = (get(image, l2_at(image)) & 0x00fffffffffffe00ull) / cluster;
  for (const auto& [where, value, expected, what] :
       {std::tuple{data, 0, 2, "referred to, not counted"}, std::tuple{data, 2, 2, "counted twice, COPIED"},
        std::tuple{image.size() / cluster - 1, 1, 0, "as it was"}}) {
    Image damaged = image;
    set(damaged, counts + where * 8, static_cast<std::uint64_t>(value));
    expect_both(damaged, expected, what);
  }
  Image leaking = image;
  leaking.resize(leaking.size() + cluster);
  set(leaking, counts + (leaking.size() / cluster - 1) * 8, 1);
  expect_both(leaking, 3, "counted, not referred to");
}

TEST(ImageWalker, JudgesDamagedEntriesAsQemuDoes) {
  const Image image = make_image("refcount_bits=16", standard);
  const std::uint64_t entry = get(image, l2_at(image));
  const std::uint64_t beyond = (image.size() / cluster + 4) * cluster;
  const std::vector<std::pair<std::uint64_t, const char*>> wrong = {{entry & ~(1ull << 63), "COPIED is missing"},
                                                                    {beyond | 1ull << 63, "data beyond the end"},
                                                                    {entry | 512, "data not aligned"}};
  for (const auto& [value, what] : wrong) {
    Image damaged = image;
    set(damaged, l2_at(image), value);
    expect_both(damaged, 2, what);
  }
  Image reserved = image;
  set(reserved, l2_at(image), entry | 1ull << 56);
  EXPECT_EQ(verdict(reserved), 2) << "a reserved bit";
  Image shared = image;
  set(shared, l2_at(image) + 8, entry);
  expect_both(shared, 2, "two entries for one cluster");
  Image dropped = image;
  set(dropped, l2_at(image), 0);
  expect_both(dropped, 3, "an entry less");
  Image not_copied = image;
  set(not_copied, l1_at(image), get(image, l1_at(image)) & ~(1ull << 63));
  expect_both(not_copied, 2, "COPIED is missing in the L1 table");
}

TEST(ImageWalker, JudgesFragments) {
  const Image image = make_image("refcount_bits=16", compressed);
  expect_both(image, 0, "as it was made");
  Image copied = image;
  set(copied, l2_at(image), get(image, l2_at(image)) | 1ull << 63);
  expect_both(copied, 2, "COPIED on a compressed cluster");
  Image damaged = image;
  const std::uint64_t at = get(image, l2_at(image)) & ((1ull << 58) - 1);
  damaged[at] ^= std::byte{0xff};
  EXPECT_EQ(qemu_verdict(damaged), 0) << "qemu-img check does not decode";
  EXPECT_EQ(verdict(damaged), 2) << "the walker does";
}

TEST(ImageWalker, AFileWithoutItsEndIsWrong) {
  Image image = make_image("refcount_bits=16", standard);
  image.resize(image.size() - 2 * cluster);
  expect_both(image, 2, "cut short");
}

}  // namespace
