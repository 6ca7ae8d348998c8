// Claim   What is read at once comes by few reads, each cluster from where it is; a damaged one says so.
#include "qcow2/flow/reader.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/open_image.h"

namespace {

using Kind = test::ScriptedFile::Kind;
using test::Bytes;
using test::OpenImage;

constexpr std::uint64_t cluster = OpenImage::cluster;

Bytes sample(unsigned index) { return test::noise(cluster, index + 1); }

// Clusters 0 to 15 compressed, one behind the other.
Bytes image_of_sixteen() {
  OpenImage image(test::empty_image());
  for (unsigned i = 0; i < 16; ++i) image.write(i * cluster, sample(i));
  image.close();
  return image.content();
}

void expect_samples(const Bytes& bytes, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(i * cluster);
    EXPECT_TRUE(std::equal(first, first + cluster, sample(i).begin())) << "cluster " << i;
  }
}

TEST(Reader, NeighbouringFragmentsComeByOneAlignedRead) {
  OpenImage image(image_of_sixteen());
  image.read(0, 512);  // the tables
  const std::size_t before = image.file.count(Kind::read);
  expect_samples(image.read(0, 16 * cluster), 16);
  ASSERT_EQ(image.file.count(Kind::read), before + 1);
  EXPECT_TRUE(image.file.operations(Kind::read).back().aligned);
}

TEST(Reader, ALongReadIsReadInPiecesOfAMegabyteAtMost) {
  OpenImage image(test::empty_image());
  for (unsigned i = 0; i < 64; ++i) image.write(i * cluster, sample(i));
  image.flush();
  expect_samples(image.read(0, 64 * cluster), 64);
  for (const auto& read : image.file.operations(Kind::read)) EXPECT_LE(read.length, (1u << 20) + 2 * 512);
}

TEST(Reader, EachClusterComesFromWhereItIs) {
  OpenImage image(image_of_sixteen());
  image.read(3 * cluster, 512);                              // decompressed, in memory
  image.write(5 * cluster, test::random_bytes(cluster, 7));  // placed, as it is
  image.flush();
  image.write(7 * cluster + 100, Bytes(1000, std::byte{1}));  // dirty in part
  test::run(image.engine, image.disk->zero(core::DiskOffset{9 * cluster}, cluster));
  const Bytes bytes = image.read(0, 16 * cluster);
  for (unsigned i = 0; i < 16; ++i) {
    Bytes expected = sample(i);
    if (i == 5) expected = test::random_bytes(cluster, 7);
    if (i == 7) std::fill_n(expected.begin() + 100, 1000, std::byte{1});
    if (i == 9) expected = Bytes(cluster);
    const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(i * cluster);
    EXPECT_TRUE(std::equal(first, first + cluster, expected.begin())) << "cluster " << i;
  }
}

TEST(Reader, WhatIsPutTogetherIsNotOverwrittenMeanwhile) {
  OpenImage image(test::empty_image());
  const Bytes old = test::random_bytes(cluster, 1);
  const Bytes later = test::random_bytes(cluster, 2);
  image.write(0, old);  // stored as it is
  image.flush();
  image.read(0, 512);                         // the tables
  image.write(100, Bytes(50, std::byte{1}));  // dirty: part of a sector
  image.file.hold(Kind::read);
  Bytes got(512);
  const auto reading = test::start(image.engine, image.disk->read(core::DiskOffset{0}, got));
  ASSERT_EQ(image.file.held(Kind::read), 2u) << "what is before the dirty bytes, and what is behind them";
  image.write(0, later);
  const auto flushing = test::start(image.engine, image.disk->flush());
  image.file.release(Kind::read);
  reading.get();
  flushing.get();
  Bytes first = old;
  std::fill_n(first.begin() + 100, 50, std::byte{1});
  const bool before = std::equal(got.begin(), got.end(), first.begin());
  const bool after = std::equal(got.begin(), got.end(), later.begin());
  EXPECT_TRUE(before || after) << "a mixture within a sector";
  EXPECT_EQ(image.read(0, cluster), later);
}

TEST(Reader, ADamagedFragmentAmongManyIsAnErrorOfThatReadAlone) {
  OpenImage image(image_of_sixteen());
  image.read(0, 512);
  image.read(15 * cluster, 512);
  const Bytes whole = image.content();
  // The middle of what is stored: some cluster between the first and the last.
  image.file.set_content(whole.size() / 2, Bytes(4096, std::byte{0xff}));
  int error = 0;
  try {
    image.read(0, 16 * cluster);
  } catch (const core::Error& failure) {
    error = failure.code().value();
  }
  EXPECT_EQ(error, EIO);
  EXPECT_EQ(image.read(0, cluster), sample(0));
  EXPECT_EQ(image.read(15 * cluster, cluster), sample(15));
}

TEST(Reader, AFailedReadOfManyIsAnErrorAndTheNextSucceeds) {
  OpenImage image(image_of_sixteen());
  image.read(0, 512);
  image.file.fail(Kind::read, image.file.count(Kind::read), EIO);
  EXPECT_THROW(image.read(0, 16 * cluster), core::Error);
  expect_samples(image.read(0, 16 * cluster), 16);
}

}  // namespace
