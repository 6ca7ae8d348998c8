// Claim   Taking, deleting and applying a snapshot leaves, wherever the power is cut, the image as it was or as it
//         shall be: no corruption, no leak, every byte of the disk and of every snapshot. So does a repair.
// Method  The writes are recorded, not made. Of those before the first barrier any sectors may have reached the disk;
//         the header's sector has, or has not, when all of them have.
#include "qcow2/offline/snapshot_changes.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "core/big_endian.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/offline/metadata_switch.h"
#include "tests/crash/image_walker.h"
#include "tests/crash/qemu_judge.h"
#include "tests/crash/random.h"
#include "tests/crash/scratch.h"

namespace {

using crash::Image;
using crash::Walk;

constexpr std::size_t sector = 512;

class RecordingWriter final : public qcow2::ImageWriter {
 public:
  struct Write {
    std::uint64_t at;
    std::vector<std::byte> bytes;
  };

  void write(qcow2::HostOffset at, core::Bytes bytes) override {
    phases.back().push_back({at.value, {bytes.begin(), bytes.end()}});
  }
  void sync() override { phases.emplace_back(); }
  void punch(qcow2::HostExtent extent) override { holes.push_back(extent); }

  std::vector<std::vector<Write>> phases{1};  // between barriers
  std::vector<qcow2::HostExtent> holes;
};

void store(Image& image, std::uint64_t at, core::Bytes bytes) {
  if (image.size() < at + bytes.size()) image.resize(at + bytes.size());
  std::memcpy(image.data() + at, bytes.data(), bytes.size());
}

Image with_some(Image image, const std::vector<RecordingWriter::Write>& writes, crash::Random& random,
                unsigned percent) {
  for (const RecordingWriter::Write& write : writes) {
    for (std::size_t at = 0; at < write.bytes.size(); at += sector) {
      const std::size_t length = std::min(sector, write.bytes.size() - at);
      if (random.chance(percent)) store(image, write.at + at, core::Bytes(write.bytes).subspan(at, length));
    }
  }
  return image;
}

bool same(const Walk::Content& one, const Walk::Content& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](const auto& a, const auto& b) {
    const bool zero = a.hashes == nullptr || b.hashes == nullptr;
    return a.index == b.index && (zero ? a.hashes == b.hashes : *a.hashes == *b.hashes);
  });
}

struct Looks {
  std::uint64_t disk_size = 0;
  Walk::Content disk;
  std::vector<Walk::Content> snapshots;
};

class SnapshotChanges : public testing::TestWithParam<const char*> {
 protected:
  SnapshotChanges() {
    const crash::ScratchFile file("changes");
    shell("qemu-img create -q -f qcow2 -o " + std::string(GetParam()) + " '" + file.path() + "' 1m");
    image_ = file.read();
  }

  static void shell(const std::string& command) { ASSERT_EQ(std::system((command + " >/dev/null").c_str()), 0); }

  // Half of the disk, compressed: such tables need no flags, and are shared as they are.
  void guest_compresses() {
    const crash::ScratchFile file("compressed");
    file.write(image_);
    std::string commands;
    for (int i = 0; i < 8; ++i) {
      commands += " -c 'write -c -P " + std::to_string(i + 1) + " " + std::to_string(i * 64) + "k 64k'";
    }
    shell("qemu-io -f qcow2" + commands + " '" + file.path() + "'");
    image_ = file.read();
  }

  // Standard clusters and zeros, all over the disk.
  void guest_writes(unsigned seed) {
    const crash::ScratchFile file("written");
    file.write(image_);
    crash::Random random(seed);
    std::string commands;
    for (int i = 0; i < 12; ++i) {
      const std::string place = std::to_string(random.below(16) * 64) + "k 64k";
      const char* const kind = random.chance(30) ? "write -z " : "write ";
      const std::string pattern =
          kind == std::string("write ") ? "-P " + std::to_string(1 + random.below(200)) + " " : "";
      commands += " -c '" + (kind + pattern) + place + "'";
    }
    shell("qemu-io -f qcow2" + commands + " '" + file.path() + "'");
    image_ = file.read();
  }

  enum class Counts { right, any };

  Looks looks_of(const Image& image, const char* what, Counts counts = Counts::right) {
    const Walk walk = crash::ImageWalker(decoder_).walk(image);
    if (counts == Counts::right) {
      EXPECT_TRUE(walk.clean()) << what << ": " << (walk.wrong.empty() ? "no image" : walk.wrong.front());
      EXPECT_EQ(walk.leaks, 0u) << what;
    }
    return {walk.disk_size, walk.content, walk.snapshots};
  }

  void expect_looks(const Image& image, const Looks& expected, const char* what, Counts counts = Counts::right) {
    const Looks looks = looks_of(image, what, counts);
    EXPECT_EQ(looks.disk_size, expected.disk_size) << what;
    EXPECT_TRUE(same(looks.disk, expected.disk)) << what;
    ASSERT_EQ(looks.snapshots.size(), expected.snapshots.size()) << what;
    for (std::size_t i = 0; i < looks.snapshots.size(); ++i) {
      EXPECT_TRUE(same(looks.snapshots[i], expected.snapshots[i])) << what << ", snapshot " << i;
    }
  }

  template <class Change>
  void change(const Looks& expected, Change make, Counts counts_before = Counts::right) {
    const crash::ScratchFile scratch("change");
    scratch.write(image_);
    const qcow2::ReadOnlyFile file(scratch.path());
    RecordingWriter writer;
    make(file, writer);
    ASSERT_EQ(writer.phases.size(), 3u);
    ASSERT_EQ(writer.phases[1].size(), 1u);
    ASSERT_EQ(writer.phases[1][0].at, 0u);
    ASSERT_EQ(writer.phases[1][0].bytes.size(), sector);
    ASSERT_TRUE(writer.phases[2].empty());

    const Looks before = looks_of(image_, "before", counts_before);
    crash::Random random(7);
    for (int round = 0; round < 40; ++round) {
      expect_looks(with_some(image_, writer.phases[0], random, 10 + round * 2), before, "cut before the switch",
                   counts_before);
    }
    expect_haste_is_caught(writer, random);
    Image after = with_some(image_, writer.phases[0], random, 100);
    expect_looks(after, before, "all but the switch", counts_before);
    store(after, 0, writer.phases[1][0].bytes);
    expect_looks(after, expected, "switched");
    for (const qcow2::HostExtent& hole : writer.holes) {
      std::memset(after.data() + hole.at.value, 0, std::min<std::uint64_t>(hole.length, after.size() - hole.at.value));
    }
    expect_looks(after, expected, "space given back");
    const crash::ScratchFile judged("judged");
    judged.write(after);
    EXPECT_EQ(crash::qemu_check(judged.path()), 0);
    image_ = std::move(after);
  }

  // The broken twin: whoever switched without waiting for the barrier would leave what is seen to be unsound.
  void expect_haste_is_caught(const RecordingWriter& writer, crash::Random& random) {
    int caught = 0;
    for (int round = 0; round < 20; ++round) {
      Image hasty = with_some(image_, writer.phases[0], random, 50);
      store(hasty, 0, writer.phases[1][0].bytes);
      const Walk walk = crash::ImageWalker(decoder_).walk(hasty);
      caught += !walk.clean() || walk.leaks != 0;
    }
    EXPECT_GT(caught, 0);
  }

  void create(const std::string& name) {
    Looks expected = looks_of(image_, "taken");
    expected.snapshots.push_back(expected.disk);
    change(expected, [&](const auto& file, auto& writer) { create_snapshot(file, writer, name, {1, 2}); });
  }
  void remove(const std::string& name, std::size_t number) {
    Looks expected = looks_of(image_, "deleted");
    expected.snapshots.erase(expected.snapshots.begin() + static_cast<std::ptrdiff_t>(number));
    change(expected, [&](const auto& file, auto& writer) { delete_snapshot(file, writer, name); });
  }
  void apply(const std::string& name, std::size_t number) {
    Looks expected = looks_of(image_, "applied");
    expected.disk = expected.snapshots[number];
    change(expected, [&](const auto& file, auto& writer) { apply_snapshot(file, writer, name); });
  }

  // Some too high, some too low, none of them right by chance only.
  void refcounts_go_wrong(unsigned seed) {
    const qcow2::Header header = qcow2::parse_header(core::Bytes(image_).first(512), "image");
    const core::MutableBytes bytes(image_);
    const auto block = core::load_big_endian<std::uint64_t>(bytes, header.refcount_table.value);
    const core::MutableBytes counts = bytes.subspan(block, header.geometry.cluster_size());
    crash::Random random(seed);
    const std::uint64_t clusters = image_.size() / header.geometry.cluster_size();
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t index = random.below(std::min(clusters, header.geometry.refcounts_per_block()));
      qcow2::set_refcount(counts, index, header.geometry.refcount_order, random.below(4));
    }
  }
  void repair() {
    EXPECT_FALSE(crash::ImageWalker(decoder_).walk(image_).clean());
    const Looks expected = looks_of(image_, "to be repaired", Counts::any);
    const auto rebuild = [](const qcow2::ReadOnlyFile& file, qcow2::ImageWriter& writer) {
      const qcow2::ImageLayout layout = qcow2::read_layout(file);
      qcow2::MetadataTarget target = qcow2::as_it_is(file, layout);
      target.mends = true;
      qcow2::switch_metadata(file, writer, layout, target);
    };
    change(expected, rebuild, Counts::any);
  }

  Image image_;
  crash::FragmentDecoder decoder_;
};

TEST_P(SnapshotChanges, SurviveAPowerCutAnywhere) {
  guest_compresses();
  create("zero");
  remove("zero", 0);
  guest_writes(1);
  create("one");
  guest_writes(2);
  create("two");
  guest_writes(3);
  apply("one", 0);
  guest_writes(4);
  create("three");
  remove("two", 1);
  apply("three", 1);
  remove("one", 0);
  guest_writes(5);
  remove("three", 0);
}

TEST_P(SnapshotChanges, ARepairSurvivesAPowerCutAnywhere) {
  guest_compresses();
  create("one");
  guest_writes(1);
  for (unsigned seed = 0; seed < 5; ++seed) {
    refcounts_go_wrong(seed);
    repair();
  }
  remove("one", 0);
}

INSTANTIATE_TEST_SUITE_P(, SnapshotChanges,
                         testing::Values("cluster_size=512", "cluster_size=4k", "cluster_size=64k",
                                         "cluster_size=4k,refcount_bits=64", "cluster_size=4k,refcount_bits=32",
                                         "cluster_size=64k,compression_type=zstd", "cluster_size=16k,extended_l2=on"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& letter : name) {
                             if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
                           }
                           return name;
                         });

}  // namespace
