// Any words as entries of L1, L2 and refcount tables, in images of every geometry.
#include <fuzzer/FuzzedDataProvider.h>

#include "core/alignment.h"
#include "core/check.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/format/table_entries.h"

namespace {

qcow2::Geometry geometry_of(FuzzedDataProvider& data) {
  qcow2::Geometry geometry;
  geometry.cluster_bits = data.ConsumeIntegralInRange<unsigned>(9, 21);
  geometry.refcount_order = data.ConsumeIntegralInRange<unsigned>(0, 6);
  geometry.extended_l2 = geometry.cluster_bits >= 14 && data.ConsumeBool();
  geometry.external_data = !geometry.extended_l2 && data.ConsumeBool();
  return geometry;
}

void decode_table(std::uint64_t word, const qcow2::Geometry& geometry) {
  try {
    const std::uint64_t at = qcow2::decode_table_entry(word, geometry);
    CHECK(core::is_aligned(at, geometry.cluster_size()) && at <= qcow2::host_offset_max);
  } catch (const core::Error&) {
  }
}

void see_parts(const qcow2::Placement& placement, const qcow2::Geometry& geometry) {
  for (std::uint64_t at = 0; at < geometry.cluster_size();) {
    const qcow2::ClusterPart part = qcow2::part_at(placement, at, geometry);
    CHECK(part.end > at && part.end <= geometry.cluster_size());
    at = part.end;
  }
}

void decode_l2(qcow2::L2Entry entry, std::uint32_t version, const qcow2::Geometry& geometry) {
  try {
    const qcow2::Placement placement = qcow2::decode_l2_entry(entry, geometry, version);
    see_parts(placement, geometry);
    const qcow2::HostClusters clusters = qcow2::clusters_referenced(placement, geometry);
    CHECK(clusters.count <= 3);
    if (const auto* compressed = std::get_if<qcow2::CompressedCluster>(&placement)) {
      CHECK(compressed->extent.length != 0 && compressed->extent.length <= 2 * geometry.cluster_size());
    }
  } catch (const core::Error&) {
  }
}

void count(FuzzedDataProvider& data, const qcow2::Geometry& geometry) {
  std::vector<std::byte> block(64);
  const std::uint64_t entries = block.size() * 8 >> geometry.refcount_order;
  const std::uint64_t index = data.ConsumeIntegralInRange<std::uint64_t>(0, entries - 1);
  const std::uint64_t value = data.ConsumeIntegralInRange<std::uint64_t>(0, geometry.refcount_max());
  qcow2::set_refcount(block, index, geometry.refcount_order, value);
  CHECK(qcow2::get_refcount(block, index, geometry.refcount_order) == value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  FuzzedDataProvider data(bytes, size);
  const qcow2::Geometry geometry = geometry_of(data);
  count(data, geometry);
  while (data.remaining_bytes() != 0) {
    const auto word = data.ConsumeIntegral<std::uint64_t>();
    const std::uint64_t second = geometry.extended_l2 ? data.ConsumeIntegral<std::uint64_t>() : 0;
    decode_table(word, geometry);
    for (const std::uint32_t version : {2u, 3u}) decode_l2({word, second}, version, geometry);
  }
  return 0;
}
