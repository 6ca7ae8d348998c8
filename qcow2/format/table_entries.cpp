#include "qcow2/format/table_entries.h"

#include "core/check.h"

namespace qcow2 {
namespace {

static_assert((entry_copied ^ l2_entry_compressed ^ entry_offset_mask ^ l2_entry_zero ^ standard_entry_reserved_mask) ==
                  ~0ull,
              "every bit of a standard entry belongs to exactly one field");

[[noreturn]] void corrupt(const char* what) { core::fail(core::Errc::corrupt_image, what); }

Placement decode_compressed(std::uint64_t entry, const Geometry& geometry) {
  const HostExtent extent = compressed_extent(entry, geometry);
  if (extent.at.value < geometry.cluster_size() || extent.at.value > host_offset_max) {
    corrupt("an L2 entry names data outside the image");
  }
  return CompressedCluster{extent};
}

}  // namespace

HostExtent compressed_extent(std::uint64_t entry, const Geometry& geometry) {
  const unsigned shift = geometry.compressed_size_shift();
  const std::uint64_t at = entry & ((1ull << shift) - 1);
  const std::uint64_t further_sectors = (entry & (l2_entry_compressed - 1)) >> shift;
  return {HostOffset{at}, (further_sectors + 1) * sector_size - at % sector_size};
}

std::uint64_t decode_table_entry(std::uint64_t entry, const Geometry& geometry) {
  const std::uint64_t at = entry & entry_offset_mask;
  if (!geometry.is_cluster_aligned(HostOffset{at})) corrupt("a table entry is not aligned to a cluster");
  return at;
}

Placement decode_l2_entry(std::uint64_t entry, const Geometry& geometry, std::uint32_t version) {
  if ((entry & l2_entry_compressed) != 0) return decode_compressed(entry, geometry);
  const HostOffset at{entry & entry_offset_mask};
  if (!geometry.is_cluster_aligned(at)) corrupt("an L2 entry is not aligned to a cluster");
  if ((entry & l2_entry_zero) != 0) {
    if (version < 3) corrupt("a version 2 image has a zero cluster");
    return ZeroCluster{at};
  }
  if (at.value == 0) return Unallocated{};
  return StandardCluster{at, (entry & entry_copied) != 0};
}

std::uint64_t encode_standard_entry(HostOffset at) {
  CHECK(at.value != 0 && (at.value & ~entry_offset_mask) == 0);
  return at.value | entry_copied;
}

std::uint64_t encode_compressed_entry(HostExtent extent, const Geometry& geometry) {
  CHECK(extent.length > 0 && extent.length <= geometry.cluster_size());
  CHECK(extent.at.value + extent.length - 1 <= geometry.compressed_offset_max());
  const std::uint64_t last_sector = (extent.at.value + extent.length - 1) / sector_size;
  const std::uint64_t further_sectors = last_sector - extent.at.value / sector_size;
  return l2_entry_compressed | further_sectors << geometry.compressed_size_shift() | extent.at.value;
}

HostClusters clusters_referenced(const Placement& placement, const Geometry& geometry) {
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    return geometry.clusters_touched(compressed->extent);
  }
  if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    return {geometry.cluster_of(standard->at), 1};
  }
  if (const auto* zero = std::get_if<ZeroCluster>(&placement)) {
    return {geometry.cluster_of(zero->preallocated), zero->preallocated.value == 0 ? 0u : 1u};
  }
  return {};
}

}  // namespace qcow2
