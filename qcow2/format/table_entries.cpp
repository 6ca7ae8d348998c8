#include "qcow2/format/table_entries.h"

#include "core/big_endian.h"
#include "core/check.h"

namespace qcow2 {
namespace {

static_assert((entry_copied ^ l2_entry_compressed ^ entry_offset_mask ^ l2_entry_zero ^ standard_entry_reserved_mask) ==
                  ~0ull,
              "every bit of a standard entry belongs to exactly one field");

[[noreturn]] void corrupt(const char* what) { core::fail(core::Errc::corrupt_image, what); }

constexpr std::uint32_t all_subclusters = ~0u;
constexpr std::uint64_t subclusters_zero = std::uint64_t{all_subclusters} << 32;

Placement decode_compressed(std::uint64_t word, const Geometry& geometry) {
  if (geometry.external_data) corrupt("a compressed cluster in an image with an external data file");
  const HostExtent extent = compressed_extent(word, geometry);
  if (extent.at.value < geometry.cluster_size() || extent.at.value > host_offset_max) {
    corrupt("an L2 entry names data outside the image");
  }
  return CompressedCluster{extent};
}

// Offset 0 where a standard entry's word names none.
HostOffset standard_place(std::uint64_t word, const Geometry& geometry) {
  const std::uint64_t offset = word & entry_offset_mask;
  if (!geometry.is_cluster_aligned(HostOffset{offset})) corrupt("an L2 entry is not aligned to a cluster");
  if (!geometry.external_data) return {offset};
  return offset == 0 && (word & entry_copied) == 0 ? HostOffset{0} : data_file_base + offset;
}

Placement decode_subclusters(L2Entry entry, HostOffset at) {
  const auto allocated = static_cast<std::uint32_t>(entry.subclusters);
  const auto zero = static_cast<std::uint32_t>(entry.subclusters >> 32);
  if ((allocated & zero) != 0) corrupt("a subcluster is both allocated and zero");
  if (allocated != 0 && at.value == 0) corrupt("a subcluster is allocated in no cluster");
  if (allocated == all_subclusters) return StandardCluster{at, (entry.word & entry_copied) != 0};
  if (zero == all_subclusters) return ZeroCluster{at};
  if (at.value == 0 && zero == 0) return Unallocated{};
  return MixedCluster{at, allocated, zero};
}

Shows what_shows(const MixedCluster& mixed, unsigned subcluster) {
  if ((mixed.allocated >> subcluster & 1) != 0) return Shows::data;
  return (mixed.zero >> subcluster & 1) != 0 ? Shows::zeros : Shows::below;
}

Shows what_shows(const Placement& placement) {
  if (std::holds_alternative<Unallocated>(placement)) return Shows::below;
  return std::holds_alternative<ZeroCluster>(placement) ? Shows::zeros : Shows::data;
}

}  // namespace

HostExtent compressed_extent(std::uint64_t word, const Geometry& geometry) {
  const unsigned shift = geometry.compressed_size_shift();
  const std::uint64_t at = word & ((1ull << shift) - 1);
  const std::uint64_t further_sectors = (word & (l2_entry_compressed - 1)) >> shift;
  return {HostOffset{at}, (further_sectors + 1) * sector_size - at % sector_size};
}

std::uint64_t decode_table_entry(std::uint64_t entry, const Geometry& geometry) {
  const std::uint64_t at = entry & entry_offset_mask;
  if (!geometry.is_cluster_aligned(HostOffset{at})) corrupt("a table entry is not aligned to a cluster");
  return at;
}

ClusterPart part_at(const Placement& placement, std::uint64_t within, const Geometry& geometry) {
  const auto* mixed = std::get_if<MixedCluster>(&placement);
  if (mixed == nullptr) return {what_shows(placement), geometry.cluster_size()};
  auto next = static_cast<unsigned>(within / geometry.subcluster_size());
  const Shows what = what_shows(*mixed, next);
  while (next < subclusters_per_cluster && what_shows(*mixed, next) == what) ++next;
  return {what, next * geometry.subcluster_size()};
}

L2Entry load_l2_entry(core::Bytes table, std::size_t index, const Geometry& geometry) {
  const std::size_t at = index * geometry.l2_entry_size();
  L2Entry entry{core::load_big_endian<std::uint64_t>(table, at), 0};
  if (geometry.extended_l2) entry.subclusters = core::load_big_endian<std::uint64_t>(table, at + 8);
  return entry;
}

void store_l2_entry(core::MutableBytes table, std::size_t index, L2Entry entry, const Geometry& geometry) {
  const std::size_t at = index * geometry.l2_entry_size();
  core::store_big_endian(table, at, entry.word);
  if (geometry.extended_l2) core::store_big_endian(table, at + 8, entry.subclusters);
}

Placement decode_l2_entry(L2Entry entry, const Geometry& geometry, std::uint32_t version) {
  if ((entry.word & l2_entry_compressed) != 0) return decode_compressed(entry.word, geometry);
  const HostOffset at = standard_place(entry.word, geometry);
  if (geometry.extended_l2) return decode_subclusters(entry, at);
  if ((entry.word & l2_entry_zero) != 0) {
    if (version < 3) corrupt("a version 2 image has a zero cluster");
    return ZeroCluster{at};
  }
  if (at.value == 0) return Unallocated{};
  return StandardCluster{at, (entry.word & entry_copied) != 0};
}

L2Entry encode_zero_entry(const Geometry& geometry) {
  return geometry.extended_l2 ? L2Entry{0, subclusters_zero} : L2Entry{l2_entry_zero, 0};
}

L2Entry encode_standard_entry(HostOffset at, const Geometry& geometry) {
  const std::uint64_t offset = geometry.external_data ? at - data_file_base : at.value;
  CHECK(at.value != 0 && (offset & ~entry_offset_mask) == 0);
  return {offset | entry_copied, geometry.extended_l2 ? subclusters_allocated_mask : 0};
}

L2Entry encode_compressed_entry(HostExtent extent, const Geometry& geometry) {
  CHECK(extent.length > 0 && extent.length <= geometry.cluster_size());
  CHECK(extent.at.value + extent.length - 1 <= geometry.compressed_offset_max());
  const std::uint64_t last_sector = (extent.at.value + extent.length - 1) / sector_size;
  const std::uint64_t further_sectors = last_sector - extent.at.value / sector_size;
  return {l2_entry_compressed | further_sectors << geometry.compressed_size_shift() | extent.at.value, 0};
}

bool has_place(const Placement& placement) {
  if (const auto* zero = std::get_if<ZeroCluster>(&placement)) return zero->preallocated.value != 0;
  if (const auto* mixed = std::get_if<MixedCluster>(&placement)) return mixed->at.value != 0;
  return !std::holds_alternative<Unallocated>(placement);
}

HostClusters clusters_referenced(const Placement& placement, const Geometry& geometry) {
  if (geometry.external_data) return {};  // nothing counts the data file's
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    return geometry.clusters_touched(compressed->extent);
  }
  if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    return {geometry.cluster_of(standard->at), 1};
  }
  if (const auto* zero = std::get_if<ZeroCluster>(&placement)) {
    return {geometry.cluster_of(zero->preallocated), zero->preallocated.value == 0 ? 0u : 1u};
  }
  if (const auto* mixed = std::get_if<MixedCluster>(&placement)) {
    return {geometry.cluster_of(mixed->at), mixed->at.value == 0 ? 0u : 1u};
  }
  return {};
}

}  // namespace qcow2
