// The words of the L1, L2 and refcount tables.
#pragma once

#include <cstdint>
#include <variant>

#include "core/bytes.h"
#include "core/error.h"
#include "qcow2/format/geometry.h"

namespace qcow2 {

// L1 and refcount table entry      63       62..56       55 ..... 9        8..0
//                              | copied | reserved | host cluster start | reserved |   (copied: L1 only)

inline constexpr std::uint64_t entry_offset_mask = host_offset_max & ~511ull;
inline constexpr std::uint64_t entry_copied = 1ull << 63;
inline constexpr std::uint64_t table_entry_reserved_mask = ~(entry_copied | entry_offset_mask);

/// Where a table of the next level lies; a zero entry names none. Throws corrupt_image for reserved bits or an offset
/// that is not a cluster's start. Offset 0 would be the header, so it always means "none".
std::uint64_t decode_table_entry(std::uint64_t entry, const Geometry& geometry);

/// An L1 entry for a table that nothing else refers to.
constexpr std::uint64_t encode_l1_entry(HostOffset table) { return table.value | entry_copied; }

// L2 entry, standard    63       62     61..56       55 ..... 9       8..1       0
//                   | copied |   0   | reserved | host cluster start | reserved | zero |
//
// L2 entry, compressed  63       62     61 ......... x              x-1 ........ 0
//                   |    0   |   1   | further 512-byte sectors | host byte offset |     x = 70 - cluster_bits
//
// A compressed fragment starts at any byte and ends somewhere within its last sector.
//
// With an external data file, offset 0 is its first cluster where `copied` is set, and no cluster is compressed.
//
// Extended entries have a second word, 0 for a compressed cluster. Else it says of each subcluster whether it reads as
// zeros (bits 63..32, the last subcluster's first) or is allocated (bits 31..0); the first word's zero flag is not
// used.

inline constexpr std::uint64_t l2_entry_compressed = 1ull << 62;
inline constexpr std::uint64_t l2_entry_zero = 1;  ///< version 3 only
inline constexpr std::uint64_t standard_entry_reserved_mask =
    ~(entry_copied | l2_entry_compressed | entry_offset_mask | l2_entry_zero);

/// Of an extended entry's second word.
inline constexpr std::uint64_t subclusters_allocated_mask = 0xffffffff;

/// One entry of an L2 table, as stored.
struct L2Entry {
  std::uint64_t word = 0;
  std::uint64_t subclusters = 0;  ///< the second word of an extended entry, else 0
  bool operator==(const L2Entry&) const = default;
};

struct Unallocated {};

/// Reads as zeros. `preallocated` is a host cluster that it still owns; offset 0 where it owns none.
struct ZeroCluster {
  HostOffset preallocated;
};
struct StandardCluster {
  HostOffset at;      ///< a cluster's start, never 0
  bool sole = false;  ///< nothing else refers to it: it may be overwritten
};
struct CompressedCluster {
  HostExtent extent;  ///< from the first byte to the end of the last sector
};
/// Its subclusters are not all alike. A bit is a subcluster, bit 0 the first; none is set in both.
struct MixedCluster {
  HostOffset at;  ///< the host cluster that it owns; offset 0 where it owns none
  std::uint32_t allocated = 0;
  std::uint32_t zero = 0;
};
using Placement = std::variant<Unallocated, ZeroCluster, StandardCluster, CompressedCluster, MixedCluster>;

/// What part of a cluster shows: bytes of its own, zeros, or what lies below the image.
enum class Shows { data, zeros, below };

struct ClusterPart {
  Shows what = Shows::below;
  std::uint64_t end = 0;  ///< byte of the cluster behind it
};

/// The part that byte `within` of the cluster belongs to.
ClusterPart part_at(const Placement& placement, std::uint64_t within, const Geometry& geometry);

/// The `index`th entry of a table or of a part of one, as the geometry has them.
L2Entry load_l2_entry(core::Bytes table, std::size_t index, const Geometry& geometry);
void store_l2_entry(core::MutableBytes table, std::size_t index, L2Entry entry, const Geometry& geometry);

/// Accepts any bits: throws corrupt_image for those that no writer may leave. `version` 2 has no zero clusters.
Placement decode_l2_entry(L2Entry entry, const Geometry& geometry, std::uint32_t version);

inline constexpr L2Entry l2_entry_unallocated{};
/// Reads as zeros and owns nothing. Version 3 only.
L2Entry encode_zero_entry(const Geometry& geometry);
/// What a compressed entry's word names, whether it can be true or not.
HostExtent compressed_extent(std::uint64_t word, const Geometry& geometry);
/// `at` must be a cluster's start, in the file that the geometry has standard clusters in.
L2Entry encode_standard_entry(HostOffset at, const Geometry& geometry);
/// `extent` is the fragment's exact bytes: not empty, within the geometry's reach, not longer than a cluster.
L2Entry encode_compressed_entry(HostExtent extent, const Geometry& geometry);

/// It has a cluster for its data, whether they show or not, and whichever file it is in.
bool has_place(const Placement& placement);

/// The image's host clusters that an L2 entry holds a reference to; count 0 where it holds none.
HostClusters clusters_referenced(const Placement& placement, const Geometry& geometry);

}  // namespace qcow2
