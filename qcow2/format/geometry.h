// Everything that follows from cluster_bits, refcount_order and the size of L2 entries. The only place where one axis
// changes its unit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/alignment.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

inline constexpr unsigned cluster_bits_min = 9;
inline constexpr unsigned cluster_bits_max = 21;
inline constexpr std::uint64_t sector_size = 512;                   ///< the unit of a compressed cluster descriptor
inline constexpr std::uint64_t host_offset_max = (1ull << 56) - 1;  ///< what an L1, L2 or refcount table entry can name
inline constexpr std::uint64_t l1_table_bytes_max = 32ull << 20;    ///< QEMU refuses longer ones
inline constexpr std::uint64_t refcount_table_bytes_max = 8ull << 20;
inline constexpr std::uint64_t disk_size_max = (1ull << 63) - 1;
inline constexpr unsigned subclusters_per_cluster = 32;  ///< where L2 entries are extended

struct Geometry {
  unsigned cluster_bits = 16;
  unsigned refcount_order = 4;  ///< a refcount is 2^order bits wide
  bool extended_l2 = false;     ///< L2 entries say of each subcluster what it shows
  bool external_data = false;   ///< standard clusters are in a file of their own, each at its guest offset
  bool raw_data = false;        ///< and that file by itself is the disk: what reads as zeros here is zeros there

  constexpr std::uint64_t cluster_size() const { return 1ull << cluster_bits; }
  constexpr std::uint64_t l2_entry_size() const { return extended_l2 ? 16 : 8; }           ///< bytes
  constexpr std::uint64_t l2_entries() const { return cluster_size() / l2_entry_size(); }  ///< in a table: one cluster
  constexpr std::uint64_t bytes_per_l2_table() const { return l2_entries() << cluster_bits; }  ///< of the guest's disk
  constexpr unsigned refcount_bits() const { return 1u << refcount_order; }
  constexpr std::uint64_t refcount_max() const { return refcount_order == 6 ? ~0ull : (1ull << refcount_bits()) - 1; }
  constexpr std::uint64_t refcounts_per_block() const { return cluster_size() * 8 >> refcount_order; }

  constexpr std::uint64_t guest_clusters(std::uint64_t bytes) const { return core::divide_up(bytes, cluster_size()); }
  constexpr std::uint64_t l1_entries(std::uint64_t bytes) const { return core::divide_up(bytes, bytes_per_l2_table()); }
  constexpr std::uint64_t host_clusters(std::uint64_t bytes) const { return core::divide_up(bytes, cluster_size()); }

  constexpr GuestCluster cluster_of(GuestOffset at) const { return {at.value >> cluster_bits}; }
  constexpr HostCluster cluster_of(HostOffset at) const { return {at.value >> cluster_bits}; }
  constexpr GuestOffset start_of(GuestCluster cluster) const { return {cluster.value << cluster_bits}; }
  constexpr HostOffset start_of(HostCluster cluster) const { return {cluster.value << cluster_bits}; }
  constexpr std::uint64_t within_cluster(GuestOffset at) const { return at.value & (cluster_size() - 1); }
  constexpr std::uint64_t within_cluster(HostOffset at) const { return at.value & (cluster_size() - 1); }
  constexpr bool is_cluster_aligned(HostOffset at) const { return within_cluster(at) == 0; }
  constexpr std::uint64_t subcluster_size() const { return cluster_size() / subclusters_per_cluster; }  ///< bytes
  /// `extent` must not be empty.
  constexpr HostClusters clusters_touched(HostExtent extent) const {
    const HostCluster first = cluster_of(extent.at);
    const HostCluster last = cluster_of(extent.at + (extent.length - 1));
    return {first, last - first + 1};
  }

  constexpr std::uint64_t l1_index(GuestCluster cluster) const { return cluster.value / l2_entries(); }
  constexpr std::uint64_t l2_index(GuestCluster cluster) const { return cluster.value % l2_entries(); }

  /// First bit of the sector count in a compressed cluster descriptor; below it lies the host byte offset.
  constexpr unsigned compressed_size_shift() const { return 70 - cluster_bits; }
  constexpr std::uint64_t compressed_offset_max() const {
    return std::min<std::uint64_t>((1ull << compressed_size_shift()) - 1, host_offset_max);
  }
  /// The longest fragment worth storing compressed. It must save at least a sector; of clusters too small for that to
  /// mean anything, an eighth.
  constexpr std::uint64_t compressed_bytes_max() const {
    return cluster_size() - std::min<std::uint64_t>(sector_size, cluster_size() / 8);
  }
};

}  // namespace qcow2
