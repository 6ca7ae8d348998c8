// Any bytes as the directory of the bitmaps of an image that is sound but for it: what is told of them is possible.
#include "core/big_endian.h"
#include "core/check.h"
#include "core/error.h"
#include "qcow2/offline/bitmap_directory.h"
#include "tests/fuzz/sample_images.h"
#include "tests/fuzz/scratch_file.h"

namespace {

const fuzz::SampleImage& sample_with_bitmap() {
  for (const fuzz::SampleImage& sample : fuzz::sample_images()) {
    if (sample.bitmap_extension != 0) return sample;
  }
  std::abort();
}

// The directory lies behind everything else.
fuzz::Bytes with_directory(const fuzz::SampleImage& sample, std::uint32_t bitmaps, core::Bytes directory) {
  fuzz::Bytes content = sample.content;
  content.resize(core::align_up(content.size(), sample.cluster_size));
  const core::MutableBytes extension = core::MutableBytes(content).subspan(sample.bitmap_extension);
  core::store_big_endian(extension, 8, bitmaps);
  core::store_big_endian(extension, 16, std::uint64_t{directory.size()});
  core::store_big_endian(extension, 24, std::uint64_t{content.size()});
  content.insert(content.end(), directory.begin(), directory.end());
  return content;
}

void look_at(const qcow2::StoredBitmap& bitmap, const qcow2::ImageLayout& layout) {
  CHECK(bitmap.name.size() <= 1023);
  CHECK(bitmap.granularity >= 512 && bitmap.granularity <= 1u << 31);
  CHECK(layout.geometry().is_cluster_aligned(bitmap.table.at));
  CHECK(bitmap.clusters.size() <= bitmap.table.length / 8);
  for (const qcow2::HostOffset cluster : bitmap.clusters) {
    CHECK(layout.geometry().is_cluster_aligned(cluster) && cluster.value <= qcow2::host_offset_max);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::SampleImage& sample = sample_with_bitmap();
  if (size < 2) return 0;
  const std::uint32_t count = data[0] == 255 ? ~0u : data[0] % 16;
  const core::Bytes directory = std::as_bytes(std::span(data + 1, size - 1));
  const qcow2::ReadOnlyFile file(fuzz::scratch_file(with_directory(sample, count, directory)));
  try {
    const qcow2::ImageLayout layout = qcow2::read_layout(file);
    std::uint32_t seen = 0;
    qcow2::BitmapReader(file, layout).for_each([&](const qcow2::StoredBitmap& bitmap) {
      look_at(bitmap, layout);
      ++seen;
    });
    CHECK(layout.bitmaps && seen == count);
  } catch (const core::Error&) {
  }
  return 0;
}
