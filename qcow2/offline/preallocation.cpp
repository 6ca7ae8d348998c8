#include "qcow2/offline/preallocation.h"

#include <algorithm>

#include "core/big_endian.h"
#include "qcow2/format/refcount_view.h"
#include "qcow2/format/table_entries.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t entry_bytes = 8;

// One for each block; offset 0 where there is none.
std::vector<HostOffset> read_refcount_table(const ReadOnlyFile& file, const Header& header) {
  const std::uint64_t length = header.refcount_table_clusters * header.geometry.cluster_size();
  const std::vector<std::byte> bytes = file.read_or_zeros(header.refcount_table, length);
  std::vector<HostOffset> table(length / entry_bytes);
  for (std::size_t i = 0; i < table.size(); ++i) {
    const auto entry = core::load_big_endian<std::uint64_t>(bytes, i * entry_bytes);
    table[i] = HostOffset{decode_table_entry(entry, header.geometry)};
  }
  return table;
}

std::uint64_t count_used(core::Bytes block, const Geometry& geometry, std::uint64_t clusters) {
  std::uint64_t used = 0;
  for (std::uint64_t i = 0; i < clusters; ++i) used += get_refcount(block, i, geometry.refcount_order) != 0 ? 1 : 0;
  return used;
}

}  // namespace

std::vector<HostOffset> refcount_blocks(const ReadOnlyFile& file, const Header& header) {
  std::vector<HostOffset> blocks = read_refcount_table(file, header);
  std::erase(blocks, HostOffset{0});
  return blocks;
}

bool reserves_more_than_it_holds(const ReadOnlyFile& file, const Header& header) {
  const Geometry& geometry = header.geometry;
  const std::uint64_t held = file.allocated_size() / geometry.cluster_size();
  const std::uint64_t suspicious = std::max(held * 10 / 9, held + 2);
  std::uint64_t left = geometry.host_clusters(file.size());
  std::uint64_t used = 0;
  for (const HostOffset at : read_refcount_table(file, header)) {
    const std::uint64_t clusters = std::min(left, geometry.refcounts_per_block());
    if (at.value != 0) used += count_used(file.read_or_zeros(at, geometry.cluster_size()), geometry, clusters);
    left -= clusters;
    if (left == 0 || used >= suspicious) break;
  }
  return used >= suspicious;
}

}  // namespace qcow2
