#include "qcow2/offline/stored_refcounts.h"

#include <algorithm>
#include <limits>

#include "core/big_endian.h"
#include "qcow2/format/refcount_view.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t cached_bytes_max = 16 << 20;
constexpr std::uint64_t cached_blocks_max = 1024;
constexpr std::uint64_t file_offset_max = std::numeric_limits<std::int64_t>::max();

}  // namespace

StoredRefcounts::StoredRefcounts(const ReadOnlyFile& file, const Header& header)
    : file_(file),
      geometry_(header.geometry),
      slots_(std::min(cached_bytes_max / header.geometry.cluster_size(), cached_blocks_max)) {
  // parse_header() has seen to it that the table has at most 8 MiB.
  const std::uint64_t length = std::uint64_t{header.refcount_table_clusters} << geometry_.cluster_bits;
  const std::vector<std::byte> bytes = file.read_or_zeros(header.refcount_table, length);
  table_.resize(length / 8);
  for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = core::load_big_endian<std::uint64_t>(bytes, i * 8);
}

std::optional<HostOffset> StoredRefcounts::block(std::uint64_t index) const {
  if (index >= table_.size()) return std::nullopt;
  const std::uint64_t at = table_[index] & ~refcount_entry_reserved_mask;
  if (at == 0) return std::nullopt;
  return HostOffset{at};
}

bool StoredRefcounts::is_readable(HostOffset block) const {
  return geometry_.is_cluster_aligned(block) && block.value <= file_offset_max;
}

const std::vector<std::byte>& StoredRefcounts::load(std::uint64_t index, HostOffset at) {
  Slot& slot = slots_[index % slots_.size()];
  if (slot.index != index) {
    slot.index = ~0ull;  // should reading fail
    slot.bytes.resize(geometry_.cluster_size());
    file_.read_or_zeros(at, slot.bytes);
    slot.index = index;
  }
  return slot.bytes;
}

HostCluster StoredRefcounts::next(HostCluster from, HostCluster end) {
  if (from >= end) return end;
  const std::uint64_t per_block = clusters_per_block();
  const std::uint64_t index = from.value / per_block;
  const std::uint64_t first = index * per_block;
  const std::vector<std::byte>& bytes = load(index, *block(index));
  return {first + next_refcount(bytes, from.value - first, end.value - first, geometry_.refcount_order)};
}

std::optional<std::uint64_t> StoredRefcounts::get(HostCluster cluster) {
  const std::uint64_t per_block = clusters_per_block();
  const std::uint64_t index = cluster.value / per_block;
  const std::optional<HostOffset> at = block(index);
  if (!at) return 0;
  if (!is_readable(*at)) return std::nullopt;
  return get_refcount(load(index, *at), cluster.value % per_block, geometry_.refcount_order);
}

}  // namespace qcow2
