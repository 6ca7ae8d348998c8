// Gives encoded clusters their place: space, then bytes. Naming them is the map's business, later.
#pragma once

#include <cstdint>

#include "core/async.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/host/cluster_allocator.h"
#include "qcow2/host/compressed_write_cache.h"
#include "qcow2/host/fragment_allocator.h"

namespace qcow2 {

/// Taking space for a fragment and filling the cache with it is one critical section: so the open cluster fills without
/// gaps, and a commit finds no fragment half placed.
///
/// Errors     Throws the device's error or ENOSPC.     Threads    The engine's strand.
class Placer {
 public:
  Placer(core::BlockFile& file, ClusterAllocator& clusters, FragmentAllocator& fragments, CompressedWriteCache& cache,
         const Geometry& geometry, std::uint64_t fresh_block);

  /// Both return the L2 entry; the bytes are readable from then on, and the space has one reference.
  core::Awaitable<L2Entry> place_compressed(core::SharedBytes fragment);
  core::Awaitable<L2Entry> place_standard(core::SharedBytes cluster);
  /// Writes over a standard cluster that nobody else refers to, or to the place that it has in an external data file.
  /// Whoever calls holds a Readers::Ticket from before the entry was looked up, so that its space is not reused
  /// meanwhile.
  core::Awaitable<void> overwrite_standard(HostOffset at, core::SharedBytes cluster);
  /// The same for zeros in the external data file: their space is given back where the file system can.
  core::Awaitable<void> blank_data(HostOffset at);
  /// Clusters were overwritten since take_overwritten(): durable after the next barrier.
  bool overwritten() const { return overwritten_; }
  void take_overwritten() { overwritten_ = false; }
  /// Standard clusters are large enough to be written by themselves.
  bool overwrites() const { return geometry_.cluster_size() >= fresh_block_; }
  std::size_t depth() const { return file_.depth(); }  ///< how many standard clusters are best placed at once
  /// What is placed later lies in fresh blocks. Does not suspend after the last fragment is in the cache.
  core::Awaitable<void> seal();
  /// What is placed next lies at or behind `cluster`, if that is free.
  core::Awaitable<void> start_at(HostCluster cluster);
  /// What is placed later lies in the lowest free space, and not behind what was placed last, if that lies higher.
  core::Awaitable<void> start_lowest();
  /// While the guard exists, nothing is packed; what was open is given up.
  core::Awaitable<core::AsyncMutex::Guard> pause();
  /// All bytes placed so far.
  std::uint64_t stored_bytes() const { return stored_bytes_; }

 private:
  core::Awaitable<HostOffset> pack(core::SharedBytes bytes, std::uint64_t alignment);

  core::BlockFile& file_;
  ClusterAllocator& clusters_;
  FragmentAllocator& fragments_;
  CompressedWriteCache& cache_;
  Geometry geometry_;
  std::uint64_t fresh_block_;
  std::uint64_t stored_bytes_ = 0;
  bool overwritten_ = false;
  core::AsyncMutex packing_;
};

}  // namespace qcow2
