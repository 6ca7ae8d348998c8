#include "qcow2/offline/bitmap_directory.h"

#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/offline/findings.h"

namespace qcow2 {
namespace {

constexpr std::size_t entry_front = 24;
constexpr std::uint32_t flag_in_use = 1;
constexpr std::uint32_t flag_automatic = 2;
constexpr std::uint32_t flags_reserved = ~3u;
constexpr std::uint8_t type_dirty_tracking = 1;
constexpr unsigned granularity_bits_min = 9;
constexpr unsigned granularity_bits_max = 31;
constexpr std::size_t name_size_max = 1023;
constexpr std::uint64_t bitmap_bytes_max = 512 << 20;

// A word of a bitmap's table: the offset, or in its place bit 0 for "all ones".
constexpr std::uint64_t all_ones = 1;
constexpr std::uint64_t word_reserved_mask = ~(entry_offset_mask | all_ones);

}  // namespace

BitmapReader::BitmapReader(const ReadOnlyFile& file, const ImageLayout& layout) : file_(file), layout_(layout) {
  // read_layout() has seen to it that the directory has at most 64 MiB.
  if (layout.bitmaps) directory_ = file.read_or_zeros(layout.bitmaps->extent.at, layout.bitmaps->extent.length);
}

void BitmapReader::require(bool holds, const std::string& what) const {
  if (!holds) refuse(what);
}

void BitmapReader::refuse(const std::string& what) const {
  core::fail(core::Errc::corrupt_image, file_.path() + ": " + what);
}

void BitmapReader::expect_all() const {
  require(!layout_.bitmaps || seen_ == layout_.bitmaps->bitmaps,
          "the bitmap directory has fewer entries than the header says");
}

StoredBitmap BitmapReader::next(std::size_t left) {
  require(left >= entry_front, "the bitmap directory ends within an entry");
  require(++seen_ <= layout_.bitmaps->bitmaps, "the bitmap directory has more entries than the header says");
  const core::Bytes entry = core::Bytes(directory_).subspan(at_);
  const std::size_t name_size = core::load_big_endian<std::uint16_t>(entry, 18);
  const std::uint64_t extra_size = core::load_big_endian<std::uint32_t>(entry, 20);
  const std::uint64_t size = core::align_up(entry_front + extra_size + name_size, 8);
  require(size <= left, "the bitmap directory ends within an entry");
  require(extra_size == 0, "a bitmap has extra data");
  const std::string name(reinterpret_cast<const char*>(entry.data()) + entry_front, name_size);

  const auto table_at = core::load_big_endian<std::uint64_t>(entry, 0);
  const auto table_entries = core::load_big_endian<std::uint32_t>(entry, 8);
  const auto flags = core::load_big_endian<std::uint32_t>(entry, 12);
  const unsigned granularity_bits = std::to_integer<unsigned>(entry[17]);
  const Geometry& geometry = layout_.geometry();
  const bool sensible = table_at != 0 && geometry.is_cluster_aligned(HostOffset{table_at}) && table_entries != 0 &&
                        table_entries <= bitmap_bytes_max >> geometry.cluster_bits && (flags & flags_reserved) == 0 &&
                        std::to_integer<std::uint8_t>(entry[16]) == type_dirty_tracking &&
                        granularity_bits >= granularity_bits_min && granularity_bits <= granularity_bits_max &&
                        name_size <= name_size_max;
  require(sensible, "the entry of bitmap " + in_quotes(name) + " cannot be true");
  require((flags & flag_in_use) != 0 || covers_disk(table_entries, granularity_bits),
          "bitmap " + in_quotes(name) + " has not the size of the disk");
  at_ += size;

  StoredBitmap bitmap;
  bitmap.name = name;
  bitmap.granularity = std::uint64_t{1} << granularity_bits;
  bitmap.in_use = (flags & flag_in_use) != 0;
  bitmap.automatic = (flags & flag_automatic) != 0;
  bitmap.table = {HostOffset{table_at}, std::uint64_t{table_entries} * 8};
  table_bytes_ += bitmap.table.length;
  require(table_bytes_ <= file_.tables_bytes_max(), "the tables of its bitmaps overlap");
  bitmap.clusters = read_table(bitmap.table, name);
  return bitmap;
}

bool BitmapReader::covers_disk(std::uint32_t table_entries, unsigned granularity_bits) const {
  const std::uint64_t bits = core::divide_up(layout_.disk_size(), std::uint64_t{1} << granularity_bits);
  const std::uint64_t bytes = core::divide_up(bits, 64) * 8;  // QEMU stores whole words
  return layout_.geometry().host_clusters(bytes) == table_entries;
}

std::vector<HostOffset> BitmapReader::read_table(HostExtent table, const std::string& name) const {
  const std::vector<std::byte> bytes = file_.read_or_zeros(table.at, table.length);
  std::vector<HostOffset> clusters;
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const auto word = core::load_big_endian<std::uint64_t>(bytes, i);
    const HostOffset at{word & entry_offset_mask};
    const bool sensible = (word & word_reserved_mask) == 0 && layout_.geometry().is_cluster_aligned(at) &&
                          (at.value == 0 || (word & all_ones) == 0);
    if (!sensible) refuse("the table of bitmap " + in_quotes(name) + " has an entry that cannot be true");
    if (at.value != 0) clusters.push_back(at);
  }
  return clusters;
}

}  // namespace qcow2
