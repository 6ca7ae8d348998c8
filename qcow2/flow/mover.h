// Puts stored clusters elsewhere, as they are: not a byte that the guest sees changes.
#pragma once

#include <memory>
#include <vector>

#include "core/engine.h"
#include "qcow2/codec/codec.h"
#include "qcow2/flow/admission.h"
#include "qcow2/flow/change_gate.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/placer.h"
#include "qcow2/host/readers.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// A guest cluster and where it is stored.
struct Resident {
  GuestCluster guest;
  L2Entry entry;
  HostExtent extent;  ///< to the end of its last sector
  bool compressed = false;
};

/// Each move is an ordinary change of the map: named with the next batch, and the old place is given up like that of an
/// overwritten cluster. What the guest writes meanwhile wins. A fragment that does not decode, or is longer than a
/// cluster, stays where it is.
///
/// Errors     Throws the device's error, ENOSPC where the host has no space for the moves, or the sticky failure.
/// Threads    The engine's strand.
class Mover {
 public:
  struct Rooms {
    ChangeGate& gate;
    Commit& commit;
    Admission& admission;
    Placer& placer;
    CompressedWriteCache& cache;
    GuestMap& map;
    Readers& readers;
    const Codec& codec;
  };

  Mover(core::Engine& engine, Rooms rooms, const Geometry& geometry, std::uint32_t version)
      : engine_(engine), rooms_(rooms), geometry_(geometry), version_(version) {}

  /// Moves some, in their order; those that are no longer so stay. `disk_size` is the guest's, in bytes. Where
  /// `recompressor` is not null, fragments become what it makes of them if that is shorter.
  /// Memory   All of them at once: the caller gives few.
  core::Awaitable<void> move(std::vector<Resident> residents, std::uint64_t disk_size, const Codec* recompressor);
  std::uint64_t moved_bytes() const { return moved_bytes_; }

 private:
  struct Work;
  core::Awaitable<void> pick(Work& work);
  core::Awaitable<void> measure(std::vector<Work>& works, const Codec* recompressor);
  core::Awaitable<void> place(Work& work);

  core::Engine& engine_;
  Rooms rooms_;
  Geometry geometry_;
  std::uint32_t version_;
  std::uint64_t moved_bytes_ = 0;
};

}  // namespace qcow2
