#include "tests/fuzz/sample_images.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "qcow2/check.h"
#include "qcow2/create.h"
#include "qcow2/format/header.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/offline/snapshot_changes.h"
#include "tests/fuzz/memory_file.h"
#include "tests/support/image_session.h"
#include "tests/support/memory_disk.h"

namespace fuzz {
namespace {

struct Kind {
  const char* name;
  std::uint64_t cluster_size = 4096;
  unsigned refcount_bits = 16;
  qcow2::CompressionType compression = qcow2::CompressionType::zlib;
  bool extended_l2 = false;
  unsigned version = 3;
  bool backing = false;
  bool snapshot = false;
  bool bitmap = false;
  bool external_data = false;
  qcow2::Preallocation preallocation = qcow2::Preallocation::off;
};

constexpr std::uint64_t clusters_of_disk = 40;

constexpr Kind kinds[] = {
    {.name = "plain"},
    {.name = "old", .version = 2},
    {.name = "tiny", .cluster_size = 512},
    {.name = "zstd", .cluster_size = 8192, .compression = qcow2::CompressionType::zstd},
    {.name = "narrow-counts", .refcount_bits = 1},
    {.name = "wide-counts", .refcount_bits = 64},
    {.name = "subclusters", .cluster_size = 16384, .extended_l2 = true},
    {.name = "derived", .backing = true},
    {.name = "snapshot", .snapshot = true},
    {.name = "tiny-snapshot", .cluster_size = 512, .refcount_bits = 8, .snapshot = true},
    {.name = "bitmap", .bitmap = true},
    {.name = "external-data", .external_data = true},
    {.name = "preallocated", .preallocation = qcow2::Preallocation::metadata},
    {.name = "usual", .cluster_size = 65536},
};

Bytes created(const std::string& path, const Kind& kind) {
  qcow2::CreateOptions options;
  options.size = clusters_of_disk * kind.cluster_size;
  options.cluster_size = kind.cluster_size;
  options.refcount_bits = kind.refcount_bits;
  options.compression = kind.compression;
  options.extended_l2 = kind.extended_l2;
  options.version = kind.version;
  options.preallocation = kind.preallocation;
  if (kind.backing) options.backing = qcow2::BackingReference{"below.raw", "raw"};
  qcow2::create_image(path, options);
  return test::read_file(path);
}

// Compressed clusters, standard ones, zeros, a part of a cluster, and some of it overwritten.
Bytes written(const Bytes& content, std::uint64_t cluster, unsigned seed) {
  test::OpenImage image(content, options_for("image"));
  for (std::uint64_t i = 0; i < 12; ++i)
    image.write(i * cluster, test::noise(cluster, seed + static_cast<unsigned>(i)));
  image.flush();
  image.write(5 * cluster, test::random_bytes(2 * cluster, seed));
  image.write(20 * cluster + 100, test::noise(cluster, seed));
  test::run(image.engine, image.disk->zero(core::DiskOffset{2 * cluster}, 2 * cluster));
  image.write(7 * cluster, test::noise(cluster / 2, seed + 50));
  image.close();
  return image.content();
}

Bytes with_snapshot(const std::string& path, const Bytes& content) {
  test::write_file(path, content);
  const std::unique_ptr<qcow2::ImageWriter> writer = qcow2::open_image_writer(path);
  const qcow2::ReadOnlyFile file(path);
  qcow2::create_snapshot(file, *writer, "before", {});
  return test::read_file(path);
}

template <class Number>
void put(Bytes& content, std::uint64_t at, Number number) {
  core::store_big_endian(core::MutableBytes(content).subspan(at, sizeof number), 0, number);
}

// No writer here makes one: the extension that names the file, in place of those there are.
Bytes with_external_data(Bytes content) {
  const std::uint64_t at = qcow2::header_length_written;
  put<std::uint64_t>(content, qcow2::header_field::incompatible_features, qcow2::incompatible::external_data_file);
  put<std::uint32_t>(content, at, qcow2::extension::data_file_name);
  put<std::uint32_t>(content, at + 4, 4);
  put<std::uint32_t>(content, at + 8, 0x64617461);
  put<std::uint64_t>(content, at + 16, 0);  // no further extension
  return content;
}

// No writer here makes one: a directory, a table and a cluster of bits behind the image, counted by a repair.
Bytes with_bitmap(const std::string& path, Bytes content) {
  constexpr std::uint64_t cluster = 4096;
  const std::uint64_t directory = core::align_up(content.size(), cluster);
  content.resize(directory + 3 * cluster);
  put<std::uint64_t>(content, qcow2::header_field::autoclear_features, qcow2::autoclear::bitmaps);
  const std::uint64_t at = qcow2::header_length_written;
  put<std::uint32_t>(content, at, 0x23852875);
  put<std::uint32_t>(content, at + 4, 24);
  put<std::uint32_t>(content, at + 8, 1);    // bitmap
  put<std::uint64_t>(content, at + 16, 32);  // bytes of the directory
  put<std::uint64_t>(content, at + 24, directory);
  put<std::uint64_t>(content, at + 32, 0);  // no further extension
  put<std::uint64_t>(content, directory, directory + cluster);
  put<std::uint32_t>(content, directory + 8, 1);   // entry of its table
  put<std::uint32_t>(content, directory + 12, 2);  // automatic
  put<std::uint8_t>(content, directory + 16, 1);   // dirty tracking
  put<std::uint8_t>(content, directory + 17, 16);  // bits of its granularity
  put<std::uint16_t>(content, directory + 18, 4);  // bytes of its name
  put<std::uint32_t>(content, directory + 24, 0x62697473);
  put<std::uint64_t>(content, directory + cluster, directory + 2 * cluster);
  test::write_file(path, content);
  qcow2::repair_image(path, qcow2::Repair::all, {});
  return test::read_file(path);
}

std::uint64_t word(const Bytes& content, std::uint64_t at) {
  return at + 8 <= content.size() ? core::load_big_endian<std::uint64_t>(core::Bytes(content).subspan(at, 8), 0) : 0;
}

void add_header(SampleImage& image, std::uint32_t length) {
  image.tables.push_back({0, 4, length / 4});
  image.tables.push_back({8, 8, length / 8 - 1});
  image.tables.push_back({length, 4, 16});  // extensions
}

void add_l1(SampleImage& image, qcow2::HostOffset at, std::uint64_t entries, const qcow2::Header& header) {
  image.tables.push_back({at.value, 8, entries});
  image.places.push_back(at.value);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t table = word(image.content, at.value + 8 * i) & qcow2::entry_offset_mask;
    if (table == 0) continue;
    image.places.push_back(table);
    const std::uint64_t words = image.cluster_size / 8;
    image.tables.push_back({table, 8, words});
    for (std::uint64_t k = 0; k < words; ++k) {
      const std::uint64_t entry = word(image.content, table + 8 * k);
      if ((entry & qcow2::l2_entry_compressed) == 0 || header.geometry.extended_l2) continue;
      const qcow2::HostExtent extent = qcow2::compressed_extent(entry, header.geometry);
      if (extent.at.value + extent.length > image.content.size()) continue;
      const auto begin = image.content.begin() + static_cast<std::ptrdiff_t>(extent.at.value);
      image.fragments.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(extent.length));
    }
  }
}

void add_refcounts(SampleImage& image, const qcow2::Header& header) {
  const std::uint64_t entries = header.refcount_table_clusters * image.cluster_size / 8;
  image.tables.push_back({header.refcount_table.value, 8, entries});
  image.places.push_back(header.refcount_table.value);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t block = word(image.content, header.refcount_table.value + 8 * i) & qcow2::entry_offset_mask;
    if (block == 0) continue;
    image.places.push_back(block);
    image.tables.push_back({block, 2, std::min<std::uint64_t>(image.cluster_size / 2, 128)});
  }
}

void add_snapshot(SampleImage& image, const qcow2::Header& header) {
  image.snapshot_table = header.snapshot_table.value;
  image.places.push_back(header.snapshot_table.value);
  image.tables.push_back({header.snapshot_table.value, 4, 20});
  const qcow2::HostOffset l1{word(image.content, header.snapshot_table.value)};
  add_l1(image, l1, header.l1_entries, header);
}

void add_bitmap(SampleImage& image) {
  image.bitmap_extension = qcow2::header_length_written;
  const std::uint64_t directory = word(image.content, image.bitmap_extension + 24);
  const std::uint64_t table = word(image.content, directory);
  image.tables.push_back({directory, 4, 8});
  image.tables.push_back({directory + 12, 1, 12});
  image.tables.push_back({table, 8, 2});
  for (const std::uint64_t place : {directory, table, word(image.content, table)}) image.places.push_back(place);
}

void find_tables(SampleImage& image) {
  const qcow2::Header header = qcow2::parse_header(image.content, image.name);
  image.cluster_size = header.geometry.cluster_size();
  image.zstd = header.compression == qcow2::CompressionType::zstd;
  add_header(image, header.length);
  add_l1(image, header.l1_table, header.l1_entries, header);
  add_refcounts(image, header);
  if (header.snapshots != 0) add_snapshot(image, header);
  if (word(image.content, qcow2::header_field::autoclear_features) == qcow2::autoclear::bitmaps) add_bitmap(image);
}

std::vector<SampleImage> make_all() {
  std::vector<SampleImage> images;
  for (const Kind& kind : kinds) {
    const test::TemporaryFolder folder;
    SampleImage image;
    image.name = kind.name;
    image.content = created(folder.file("image"), kind);
    if (kind.external_data) image.content = with_external_data(std::move(image.content));
    image.content = written(image.content, kind.cluster_size, 1);
    if (kind.snapshot)
      image.content = written(with_snapshot(folder.file("image"), image.content), kind.cluster_size, 9);
    if (kind.bitmap) image.content = with_bitmap(folder.file("image"), image.content);
    find_tables(image);
    images.push_back(std::move(image));
  }
  return images;
}

core::Awaitable<std::unique_ptr<core::GuestDisk>> small_disk(qcow2::BackingReference) {
  co_return std::make_unique<test::MemoryDisk>(30 * 4096 + 512, 4096, true);
}

}  // namespace

const std::vector<SampleImage>& sample_images() {
  static const std::vector<SampleImage> images = make_all();
  return images;
}

qcow2::ImageOptions options_for(const std::string& name) {
  qcow2::ImageOptions options;
  options.name = name;
  options.cache_size = 1 << 20;
  options.tables_size = 64 << 10;
  options.clean_from = 4096;
  options.open_backing = small_disk;
  options.open_data_file = [](const std::string&) { return std::make_unique<MemoryFile>(); };
  return options;
}

}  // namespace fuzz
