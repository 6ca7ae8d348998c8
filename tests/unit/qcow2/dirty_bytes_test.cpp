// Claim   What was written is what is known, whatever form it is held in; and a few small writes take little memory.
#include "qcow2/flow/dirty_bytes.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>

namespace {

using qcow2::ByteRange;
using qcow2::DirtyBytes;

core::SharedBytes filled(std::size_t size, std::uint8_t value) {
  const auto bytes = std::make_shared<core::Buffer>(size);
  std::fill_n(bytes->data(), size, std::byte{value});
  return core::SharedBytes(bytes);
}

using Model = std::vector<std::optional<std::uint8_t>>;  // a byte, where it is known

void expect_as_model(const DirtyBytes& bytes, const Model& model, std::uint64_t cluster) {
  constexpr std::uint8_t untouched = 0xee;
  std::vector<std::byte> copied(cluster, std::byte{untouched});
  bytes.copy_known({0, cluster}, copied);
  const core::SharedBytes over_base = bytes.over(filled(cluster, 0x55));
  const core::SharedBytes over_nothing = bytes.over(std::nullopt);
  bool complete = true;
  for (std::uint64_t i = 0; i < cluster; ++i) {
    complete = complete && model[i];
    ASSERT_EQ(std::to_integer<int>(copied[i]), model[i].value_or(untouched)) << i;
    ASSERT_EQ(std::to_integer<int>(over_base.bytes[i]), model[i].value_or(0x55)) << i;
    ASSERT_EQ(std::to_integer<int>(over_nothing.bytes[i]), model[i].value_or(0)) << i;
  }
  ASSERT_EQ(bytes.complete(), complete);
  for (const ByteRange& gap : bytes.missing({0, cluster})) {
    for (std::uint64_t i = gap.begin; i < gap.end; ++i) ASSERT_FALSE(model[i]) << i;
  }
}

class DirtyBytesOfCluster : public testing::TestWithParam<std::uint64_t> {};

TEST_P(DirtyBytesOfCluster, RandomWritesReadBack) {
  const std::uint64_t cluster = GetParam();
  for (unsigned seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    DirtyBytes bytes(cluster);
    DirtyBytes older(cluster);
    Model model(cluster);
    Model older_model(cluster);
    const std::uint64_t longest = seed % 3 == 0 ? cluster : std::min<std::uint64_t>(cluster, 6000);
    for (int step = 0; step < 25; ++step) {
      const std::uint64_t length = 1 + random() % longest;
      const std::uint64_t within = random() % (cluster - length + 1);
      const auto value = static_cast<std::uint8_t>(random() % 200);
      const bool to_older = random() % 2 == 0;
      DirtyBytes& target = to_older ? older : bytes;
      if (value == 0 || random() % 5 == 0) {
        target.write_zeros({within, within + length});
        std::fill_n((to_older ? older_model : model).begin() + static_cast<std::ptrdiff_t>(within), length, 0);
      } else {
        target.write(within, filled(length, value));
        std::fill_n((to_older ? older_model : model).begin() + static_cast<std::ptrdiff_t>(within), length, value);
      }
      if (step % 8 == 7) expect_as_model(bytes, model, cluster);
    }
    bytes.add_below(older);
    for (std::uint64_t i = 0; i < cluster; ++i) {
      if (!model[i]) model[i] = older_model[i];
    }
    expect_as_model(bytes, model, cluster);
  }
}

INSTANTIATE_TEST_SUITE_P(, DirtyBytesOfCluster, testing::Values(512, 4096, 8192, 16384, 65536),
                         testing::PrintToStringParamName());

TEST(DirtyBytes, APartIsCopiedToWhereItBelongs) {
  DirtyBytes bytes(65536);
  bytes.write(10'000, filled(3000, 7));
  std::vector<std::byte> target(2000, std::byte{0});
  bytes.copy_known({12'000, 14'000}, target);
  EXPECT_EQ(target[999], std::byte{7});
  EXPECT_EQ(target[1000], std::byte{0});
}

TEST(DirtyBytes, AWholeClusterIsNotCopied) {
  DirtyBytes bytes(65536);
  bytes.write(4096, filled(512, 1));
  const core::SharedBytes payload = filled(65536, 9);
  bytes.write(0, payload);
  EXPECT_EQ(bytes.over(std::nullopt).bytes.data(), payload.bytes.data());
}

TEST(DirtyBytes, FewSmallWritesTakeLittleMemory) {
  DirtyBytes bytes(65536);
  bytes.write(8192, filled(4096, 1));
  bytes.write(8192 + 512, filled(512, 2));
  EXPECT_LT(bytes.memory(), 5000u);
  for (std::uint64_t at = 0; at < 65536; at += 4096) bytes.write(at, filled(512, 3));
  EXPECT_EQ(bytes.memory(), 65536u);
}

}  // namespace
