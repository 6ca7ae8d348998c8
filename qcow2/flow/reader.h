// From an L2 entry to the bytes it stands for; where it stands for none, to those of the backing disk.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/engine.h"
#include "qcow2/codec/codec.h"
#include "qcow2/flow/backing.h"
#include "qcow2/flow/decoded_cache.h"
#include "qcow2/format/table_entries.h"
#include "qcow2/host/compressed_write_cache.h"

namespace qcow2 {

enum class Keep { yes, no };  ///< whether a decompressed cluster is worth remembering

/// Whoever calls holds a Readers::Ticket from before the entry was looked up, so that its space is not reused
/// meanwhile.
///
/// Errors     Throws the device's error, or EIO for a fragment that does not decode.
/// Threads    The engine's strand.
class Reader {
 public:
  Reader(core::Engine& engine, core::BlockFile& file, CompressedWriteCache& cache, Backing& backing, const Codec& codec,
         const Geometry& geometry, std::uint32_t version, std::uint64_t decoded_bytes_max);

  /// Part of a guest cluster, whose entry is `entry`: from `at` on as much as `target` has room for.
  struct Piece {
    GuestOffset at;
    L2Entry entry;
    core::MutableBytes target;
  };

  core::Awaitable<void> read(Piece piece);
  /// Fills all of them, side by side. Where several whole clusters are wanted, neighbouring fragments come by one read
  /// and are decompressed to where they are wanted; they are not remembered: who reads so much at once hardly comes
  /// back.
  core::Awaitable<void> read_all(std::vector<Piece> pieces);
  /// The whole cluster.
  core::Awaitable<core::SharedBytes> whole(GuestCluster cluster, L2Entry entry);
  /// Bytes of decompressed clusters to remember from now on.
  void limit_decoded(std::uint64_t bytes_max) { decoded_.limit(bytes_max); }
  /// Compressed clusters that were remembered when they were asked for, and those that had to be decompressed.
  std::uint64_t decoded_hits() const { return decoded_hits_; }
  std::uint64_t decoded_misses() const { return decoded_misses_; }
  /// Must be called before the space is reused.
  void forget(HostExtent range) { decoded_.forget(range); }

 private:
  struct Flight;
  struct Wanted {  // a whole cluster
    HostExtent fragment;
    core::MutableBytes target;
  };
  std::optional<HostExtent> whole_fragment(const Piece& piece);
  core::Awaitable<void> read_parts(MixedCluster mixed, GuestOffset at, core::MutableBytes target);
  bool shows_backing(const Piece& piece) const;
  core::Awaitable<void> read_run(std::vector<Wanted> run);
  core::Awaitable<void> decode_part(std::span<const Wanted> part, HostOffset begin, core::Bytes stored);
  core::Awaitable<core::SharedBytes> decoded(HostExtent fragment, Keep keep);
  core::Awaitable<core::SharedBytes> decode(HostExtent fragment);

  core::Engine& engine_;
  core::BlockFile& file_;
  CompressedWriteCache& cache_;
  Backing& backing_;
  const Codec& codec_;
  Geometry geometry_;
  std::uint32_t version_;
  DecodedCache decoded_;
  std::uint64_t decoded_hits_ = 0;
  std::uint64_t decoded_misses_ = 0;
  std::unordered_map<HostOffset, std::shared_ptr<Flight>> flights_;  ///< each fragment is decoded once at a time
};

}  // namespace qcow2
