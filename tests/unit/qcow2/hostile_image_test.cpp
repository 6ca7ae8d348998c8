// Claim   What fuzzing has found in images that nobody would write by accident stays mended.
// Method  A sound image with one table entry changed by hand, and counted anew.
#include <gtest/gtest.h>
#include <zlib.h>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "qcow2/check.h"
#include "qcow2/format/header.h"
#include "qcow2/format/table_entries.h"
#include "tests/support/image_session.h"
#include "tests/support/open_image.h"

namespace {

using test::Bytes;
using test::OpenImage;

/// Deflate without compression: some bytes longer than what goes in.
Bytes stored_stream(const Bytes& plain) {
  z_stream stream{};
  if (deflateInit2(&stream, 0, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  Bytes bytes(deflateBound(&stream, plain.size()) + 64);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  deflate(&stream, Z_FINISH);
  bytes.resize(stream.total_out);
  deflateEnd(&stream);
  return bytes;
}

/// The image with its first guest cluster stored as `fragment`, behind everything else.
Bytes with_first_cluster(Bytes content, const Bytes& fragment) {
  const qcow2::Header header = qcow2::parse_header(content, "test");
  const std::uint64_t at = core::align_up(content.size(), header.geometry.cluster_size());
  content.resize(at);
  content.insert(content.end(), fragment.begin(), fragment.end());
  content.resize(core::align_up(content.size(), header.geometry.cluster_size()));
  const auto l1_entry = core::load_big_endian<std::uint64_t>(core::Bytes(content).subspan(header.l1_table.value, 8), 0);
  const std::uint64_t further_sectors = (fragment.size() - 1) / qcow2::sector_size;
  const std::uint64_t entry =
      qcow2::l2_entry_compressed | further_sectors << header.geometry.compressed_size_shift() | at;
  core::store_big_endian(core::MutableBytes(content).subspan(l1_entry & qcow2::entry_offset_mask, 8), 0, entry);
  const test::TemporaryFolder folder;
  test::write_file(folder.file("image"), content);
  qcow2::repair_image(folder.file("image"), qcow2::Repair::all, {});
  return test::read_file(folder.file("image"));
}

Bytes with_a_cluster_written() {
  OpenImage image(test::empty_image());
  image.write(0, test::noise(2 * OpenImage::cluster, 1));
  image.close();
  return image.content();
}

TEST(HostileImage, AFragmentLongerThanAClusterStaysWhereItIs) {
  const Bytes plain = test::random_bytes(OpenImage::cluster, 1);
  const Bytes fragment = stored_stream(plain);
  ASSERT_GT(fragment.size(), OpenImage::cluster);
  OpenImage image(with_first_cluster(with_a_cluster_written(), fragment));
  ASSERT_EQ(image.read(0, OpenImage::cluster), plain);
  test::run(image.engine, image.disk->compact({}));
  EXPECT_EQ(image.read(0, OpenImage::cluster), plain);
  image.close();
}

}  // namespace
