// Every bound on memory and on work under way, and how they relate.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/bytes.h"

namespace qcow2::limits {

/// One metadata slice: what of an L2 table or a refcount block is read, kept and written together.
inline constexpr std::uint64_t slice_bytes = 4096;
/// After a commit, compressed data goes on at such a boundary: a block that holds durable bytes is never written again.
inline constexpr std::uint64_t fresh_block_bytes = 4096;

/// A batch is committed in the background when it changes more slices than this,
inline constexpr std::uint64_t changed_slices_max = 2048;
/// or has stored more bytes than this (their predecessors' space comes back only then),
inline constexpr std::uint64_t batch_stored_bytes_max = 128 << 20;
/// or has given up more references than this. Writers wait at twice any of them.
inline constexpr std::uint64_t batch_lost_references_max = 1 << 17;
/// The same for the bytes that they may free: a share of the image, within these.
inline constexpr std::uint64_t batch_lost_bytes_min = 8 << 20;
inline constexpr std::uint64_t batch_lost_bytes_max = 128 << 20;

inline constexpr std::uint64_t write_bytes_max = 1 << 20;  ///< of one coalesced write

inline constexpr std::uint64_t read_bytes_max = 1 << 20;  ///< of neighbouring fragments by one read
inline constexpr std::uint64_t read_gap_max = 16 << 10;   ///< between them: reading it costs less than another read

/// What an encoder lane takes at once where that much waits: a job of a single cluster pays as much for the change of
/// threads as for a tenth of its compression.
inline constexpr std::uint64_t lane_bytes = 256 << 10;

/// Clusters gathered at a time, by what they may need on the host when each turns out incompressible.
inline constexpr std::uint64_t gathering_reserve_max = 1 << 30;

/// Where an image has holes, its clusters are looked at so far beyond what it takes of its host.
inline constexpr std::uint64_t tracked_holes_bytes = 128ull << 30;

/// Host space is set aside in steps of this.
inline constexpr std::uint64_t reserve_bytes = 16 << 20;

/// So long after the last batch, or after the commit interval, an image that nobody writes to is tidied up.
inline constexpr unsigned quiet_before_tidying_ms = 1000;

/// A cleaner that works beside the guest rests so many times as long as it worked.
inline constexpr unsigned cleaning_pause = 3;

/// How -o cache_size is shared out.
struct Budget {
  std::uint64_t dirty_bytes;       ///< guest clusters gathered or being compressed
  std::uint64_t compressed_bytes;  ///< the compressed write cache
  std::uint64_t decoded_bytes;     ///< decompressed clusters kept for reading, less what is dirty just now
  std::uint64_t decoded_bytes_min;
};

inline Budget share_out(std::uint64_t cache_size, std::uint64_t cluster_size) {
  return {.dirty_bytes = std::max(cache_size / 4 * 3, 4 * cluster_size),
          .compressed_bytes = std::max(cache_size / 8, 2 * cluster_size),
          .decoded_bytes = std::max(cache_size / 8 * 7, 2 * cluster_size),
          .decoded_bytes_min = 2 * cluster_size};
}

static_assert(slice_bytes % core::memory_alignment == 0, "slices are written by direct I/O");

}  // namespace qcow2::limits
