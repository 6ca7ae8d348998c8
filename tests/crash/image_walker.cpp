#include "tests/crash/image_walker.h"

#include <algorithm>
#include <cstring>

namespace crash {
namespace {

constexpr std::size_t complaints_max = 8;
constexpr std::uint64_t offset_mask = 0x00fffffffffffe00ull;
constexpr std::uint64_t copied_bit = 1ull << 63;
constexpr std::uint64_t compressed_bit = 1ull << 62;
constexpr std::uint64_t all_subclusters_allocated = 0xffffffffull;
constexpr std::uint64_t all_subclusters_zero = 0xffffffffull << 32;

std::uint64_t big_endian(const std::byte* at, unsigned width) {
  std::uint64_t value = 0;
  if (width == 8) {
    std::memcpy(&value, at, 8);
    return __builtin_bswap64(value);
  }
  for (unsigned i = 0; i < width; ++i) value = value << 8 | std::to_integer<std::uint64_t>(at[i]);
  return value;
}

}  // namespace

void ImageWalker::complain(Walk& walk, const std::string& what, std::uint64_t where) {
  if (walk.wrong.size() < complaints_max) walk.wrong.push_back(what + " " + std::to_string(where));
}

core::Bytes ImageWalker::bytes(std::uint64_t at, std::uint64_t length) {
  if (at + length <= image_.size()) return image_.subspan(at, length);
  if (beyond_.size() < length) beyond_ = core::Buffer(length);
  const std::uint64_t there = at < image_.size() ? image_.size() - at : 0;
  if (there != 0) std::memcpy(beyond_.data(), image_.data() + at, there);
  std::memset(beyond_.data() + there, 0, length - there);
  return core::Bytes(beyond_.span()).first(length);
}

std::uint64_t ImageWalker::load64(std::uint64_t at) const {
  return at + 8 <= image_.size() ? big_endian(image_.data() + at, 8) : 0;
}

bool ImageWalker::parse_header(Walk& walk) {
  header_ = Header{};
  if (image_.size() < 512) return false;
  const std::byte* head = image_.data();
  const std::uint64_t version = big_endian(head + 4, 4);
  if (big_endian(head, 4) != 0x514649fb || version != 3) return false;
  header_.cluster_bits = static_cast<unsigned>(big_endian(head + 20, 4));
  header_.disk_size = big_endian(head + 24, 8);
  header_.l1_entries = big_endian(head + 36, 4);
  header_.l1_at = big_endian(head + 40, 8);
  header_.refcount_table_at = big_endian(head + 48, 8);
  header_.refcount_table_clusters = big_endian(head + 56, 4);
  header_.refcount_order = static_cast<unsigned>(big_endian(head + 96, 4));
  header_.zstd = big_endian(head + 104, 1) == 1;
  if (header_.cluster_bits < 9 || header_.cluster_bits > 21 || header_.refcount_order > 6) return false;
  cluster_size_ = 1ull << header_.cluster_bits;
  header_.snapshots = big_endian(head + 60, 4);
  header_.snapshots_at = big_endian(head + 64, 8);
  const bool unserved = big_endian(head + 8, 8) != 0 || big_endian(head + 32, 4) != 0 || header_.snapshots > 100;
  const std::uint64_t features = big_endian(head + 72, 8);
  header_.extended = (features & 16) != 0;
  if (unserved || (features & ~16ull) != (header_.zstd ? 8u : 0u)) {
    complain(walk, "the header has unexpected features", features);
  }
  const std::uint64_t l1_span = cluster_size_ * l2_entries();
  const std::uint64_t l1_needed = header_.disk_size / l1_span + (header_.disk_size % l1_span != 0 ? 1 : 0);
  if (header_.l1_entries < l1_needed) complain(walk, "the L1 table is too short for a disk of", header_.disk_size);
  if (header_.l1_at % cluster_size_ != 0 || header_.refcount_table_at % cluster_size_ != 0) return false;
  if (header_.l1_entries * 8 > 32 << 20 || header_.refcount_table_clusters * cluster_size_ > 8 << 20) return false;
  walk.disk_size = header_.disk_size;
  walk.autoclear_features = big_endian(head + 88, 8);
  walk.cluster_size = cluster_size_;
  return true;
}

// One reference to every host cluster that the bytes touch.
void ImageWalker::refer(Walk& walk, std::uint64_t at, std::uint64_t length, Use use) {
  if (length == 0) return;
  const std::uint64_t end = at + length;
  if (end > image_.size() && end - image_.size() >= cluster_size_) {
    complain(walk, "a reference a cluster or more beyond the end of the file, at", at);
    return;
  }
  const std::uint64_t last = (end - 1) >> header_.cluster_bits;
  for (std::uint64_t cluster = at >> header_.cluster_bits; cluster <= last; ++cluster) {
    if (references_.size() <= cluster) {
      references_.resize(cluster + 1);
      walk.uses.resize(cluster + 1);
    }
    ++references_[cluster];
    Use& known = walk.uses[cluster];
    const bool same_kind = known == use && (use == Use::data || (use == Use::l2_table && header_.snapshots != 0));
    const bool shared = known != Use::nothing && !same_kind;
    if (shared) complain(walk, "metadata overlaps something in host cluster", cluster);
    known = std::max(known == Use::data ? Use::nothing : known, use);
  }
}

void ImageWalker::find_refcounts(Walk& walk) {
  blocks_.clear();
  const std::uint64_t table_bytes = header_.refcount_table_clusters * cluster_size_;
  refer(walk, header_.refcount_table_at, table_bytes, Use::refcount_table);
  if (header_.refcount_table_clusters == 0) complain(walk, "no refcount table", 0);
  for (std::uint64_t i = 0; i < table_bytes / 8; ++i) {
    const std::uint64_t entry = load64(header_.refcount_table_at + i * 8);
    blocks_.push_back(0);
    if (entry == 0) continue;
    if (entry % cluster_size_ != 0) {
      complain(walk, "a refcount block is not aligned: entry", i);
    } else if (entry >= image_.size()) {
      complain(walk, "a refcount block lies beyond the end of the file: entry", i);
    } else {
      blocks_.back() = entry;
      refer(walk, entry, cluster_size_, Use::refcount_block);
    }
  }
}

std::uint64_t ImageWalker::refcount(std::uint64_t cluster) const {
  const unsigned order = header_.refcount_order;
  const std::uint64_t per_block_bits = header_.cluster_bits + 3 - order;
  const std::uint64_t block = cluster >> per_block_bits;
  if (block >= blocks_.size() || blocks_[block] == 0) return 0;
  const std::uint64_t index = cluster & ((1ull << per_block_bits) - 1);
  const std::uint64_t bit = index << order;
  const std::uint64_t at = blocks_[block] + bit / 8;
  if (order >= 3) {
    const unsigned width = 1u << (order - 3);
    return at + width <= image_.size() ? big_endian(image_.data() + at, width) : 0;
  }
  if (at >= image_.size()) return 0;
  return std::to_integer<unsigned>(image_[at]) >> (bit % 8) & ((1u << (1u << order)) - 1);
}

// After the disk as it is now: what they name besides goes to their own content.
void ImageWalker::visit_snapshots(Walk& walk) {
  active_ = false;
  std::uint64_t at = header_.snapshots_at;
  for (std::uint64_t i = 0; i < header_.snapshots && at + 40 <= image_.size(); ++i) {
    const Walk::Content before = std::exchange(walk.content, {});
    const std::byte* entry = image_.data() + at;
    visit_l1(walk, big_endian(entry, 8), big_endian(entry + 8, 4));
    walk.snapshots.push_back(std::exchange(walk.content, before));
    at += 40 + big_endian(entry + 12, 2) + big_endian(entry + 14, 2) + big_endian(entry + 36, 4);
    at = (at + 7) / 8 * 8;
  }
  refer(walk, header_.snapshots_at, at - header_.snapshots_at, Use::snapshot_table);
}

void ImageWalker::visit_l1(Walk& walk, std::uint64_t at, std::uint64_t l1_entries) {
  refer(walk, at, l1_entries * 8, Use::l1_table);
  for (std::uint64_t i = 0; i < l1_entries; ++i) {
    const std::uint64_t entry = load64(at + i * 8);
    if (entry == 0) continue;
    const std::uint64_t table = entry & offset_mask;
    if ((entry & ~(offset_mask | copied_bit)) != 0) complain(walk, "reserved bits in L1 entry", i);
    if (table % cluster_size_ != 0) {
      complain(walk, "an L2 table is not aligned: L1 entry", i);
      continue;
    }
    if (table == 0) continue;
    const bool once = refcount(table >> header_.cluster_bits) == 1;
    const bool copied = (entry & copied_bit) != 0;
    if (active_ && once != copied) complain(walk, "COPIED contradicts the refcount in L1 entry", i);
    refer(walk, table, cluster_size_, Use::l2_table);
    visit_l2(walk, i, table);
  }
}

void ImageWalker::visit_l2(Walk& walk, std::uint64_t l1_index, std::uint64_t table) {
  for (std::uint64_t i = 0; i < l2_entries(); ++i) {
    const std::uint64_t guest = l1_index * l2_entries() + i;
    if (header_.extended) {
      visit_extended(walk, guest, load64(table + i * 16), load64(table + i * 16 + 8));
    } else if (const std::uint64_t entry = load64(table + i * 8); entry != 0) {
      visit_entry(walk, guest, entry);
    }
  }
}

// Whole clusters are all that is written here: as an entry without subclusters says it.
void ImageWalker::visit_extended(Walk& walk, std::uint64_t guest, std::uint64_t entry, std::uint64_t subclusters) {
  const bool compressed = (entry & compressed_bit) != 0;
  if (subclusters == all_subclusters_zero && !compressed) return visit_entry(walk, guest, entry | 1);
  if (subclusters != (compressed || entry == 0 ? 0 : all_subclusters_allocated)) {
    complain(walk, "unexpected subclusters in the entry of guest cluster", guest);
  }
  if ((entry & 1) != 0 && !compressed) complain(walk, "a zero flag beside subclusters: guest cluster", guest);
  if (entry != 0) visit_entry(walk, guest, entry);
}

void ImageWalker::visit_entry(Walk& walk, std::uint64_t guest, std::uint64_t entry) {
  if ((entry & compressed_bit) != 0) return visit_compressed(walk, guest, entry);
  const std::uint64_t at = entry & offset_mask;
  const bool zero = (entry & 1) != 0;
  if ((entry & ~(offset_mask | copied_bit | 1)) != 0)
    complain(walk, "reserved bits in the entry of guest cluster", guest);
  if (at % cluster_size_ != 0) return complain(walk, "data is not aligned: guest cluster", guest);
  if (at == 0) {
    if (zero) walk.content.push_back({guest, nullptr});
    return;
  }
  const bool once = refcount(at >> header_.cluster_bits) == 1;
  if (active_ && once != ((entry & copied_bit) != 0)) {
    complain(walk, "COPIED contradicts the refcount: guest cluster", guest);
  }
  refer(walk, at, cluster_size_, Use::data);
  walk.data.push_back({at, cluster_size_, cluster_size_ >= 4096 && once && active_});
  walk.content.push_back({guest, zero ? nullptr : decoder_.standard(bytes(at, cluster_size_))});
}

ImageWalker::Fragment ImageWalker::fragment_of(std::uint64_t entry) const {
  const unsigned shift = 70 - header_.cluster_bits;
  const std::uint64_t at = entry & ((1ull << shift) - 1);
  const std::uint64_t sectors = (entry & (compressed_bit - 1)) >> shift;
  return {at, (sectors + 1) * 512 - at % 512};
}

void ImageWalker::visit_compressed(Walk& walk, std::uint64_t guest, std::uint64_t entry) {
  if ((entry & copied_bit) != 0) complain(walk, "COPIED on compressed guest cluster", guest);
  const Fragment fragment = fragment_of(entry);
  refer(walk, fragment.at, fragment.length, Use::data);
  if (fragment.at >= image_.size()) return complain(walk, "no fragment at all: guest cluster", guest);
  const std::uint64_t length = std::min(fragment.length, image_.size() - fragment.at);
  const auto* hashes = decoder_.compressed(image_.subspan(fragment.at, length), cluster_size_, header_.zstd);
  if (hashes == nullptr) return complain(walk, "undecodable: guest cluster", guest);
  walk.data.push_back({fragment.at, fragment.length, false});
  walk.content.push_back({guest, hashes});
}

void ImageWalker::compare_counts(Walk& walk) {
  const std::uint64_t clusters =
      std::max<std::uint64_t>(references_.size(), (image_.size() + cluster_size_ - 1) >> header_.cluster_bits);
  references_.resize(clusters);
  walk.uses.resize(clusters);
  for (std::uint64_t i = 0; i < clusters; ++i) {
    const std::uint64_t counted = refcount(i);
    if (counted < references_[i]) {
      complain(walk,
               std::to_string(references_[i]) + " references, counted " + std::to_string(counted) + ": host cluster",
               i);
    }
    if (counted > references_[i]) ++walk.leaks;
  }
}

Walk ImageWalker::walk(core::Bytes image) {
  Walk walk;
  image_ = image;
  references_.clear();
  if (!parse_header(walk)) {
    complain(walk, "no usable header in a file of bytes:", image.size());
    return walk;
  }
  walk.readable = true;
  refer(walk, 0, cluster_size_, Use::header);
  find_refcounts(walk);
  active_ = true;
  visit_l1(walk, header_.l1_at, header_.l1_entries);
  visit_snapshots(walk);
  compare_counts(walk);
  return walk;
}

bool ImageWalker::read_cluster(core::Bytes image, std::uint64_t index, core::MutableBytes target) {
  Walk walk;
  image_ = image;
  if (!parse_header(walk) || target.size() != cluster_size_) return false;
  std::memset(target.data(), 0, target.size());
  const std::uint64_t l1_index = index / l2_entries();
  const std::uint64_t table = l1_index < header_.l1_entries ? load64(header_.l1_at + l1_index * 8) & offset_mask : 0;
  const std::uint64_t entry_at = table + index % l2_entries() * (header_.extended ? 16 : 8);
  const std::uint64_t entry = table == 0 ? 0 : load64(entry_at);
  if ((entry & compressed_bit) != 0) {
    const Fragment fragment = fragment_of(entry);
    const std::uint64_t length = std::min(fragment.length, image.size() - std::min(image.size(), fragment.at));
    return FragmentDecoder::decode(image.subspan(fragment.at, length), target, header_.zstd);
  }
  const std::uint64_t at = entry & offset_mask;
  const bool zero = header_.extended ? load64(entry_at + 8) == all_subclusters_zero : (entry & 1) != 0;
  if (at == 0 || zero) return true;
  const core::Bytes source = bytes(at, cluster_size_);
  std::memcpy(target.data(), source.data(), source.size());
  return true;
}

}  // namespace crash
