// Gives the host the space back that nobody uses any more: free clusters, dead blocks, and what was set aside.
#pragma once

#include <cstdint>
#include <functional>

#include "core/async.h"
#include "core/patient_file.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/placer.h"
#include "qcow2/host/block_use.h"
#include "qcow2/host/cluster_allocator.h"
#include "qcow2/host/space_reserve.h"

namespace qcow2 {

/// Everything is punched only after its unlink is durable, and nobody gets it while it is being punched. Whoever writes
/// meanwhile waits for one round at most, which is short.
///
/// Errors     Throws the device's error, which is then the sticky failure.
/// Threads    The engine's strand; calls must not overlap.
class GivingBack {
 public:
  struct Rooms {
    core::PatientFile& file;
    Commit& commit;
    Placer& placer;
    ClusterAllocator& clusters;
    SpaceReserve& space;
    BlockUse& block_use;
  };

  /// `idle` says that nothing is under way that space was promised to. Where not `punches`, only the file's end is cut
  /// off, in everything().
  GivingBack(Rooms rooms, std::function<bool()> idle, bool punches)
      : rooms_(rooms), idle_(std::move(idle)), punches_(punches) {}

  /// Nothing is under way, and there is something to give back.
  bool due() const;
  /// Gives back a part of it, unless something is under way by then. The file's end in any case.
  core::Awaitable<void> a_round();
  /// At the end of the mount, when all is durable and nothing is taken any more.
  core::Awaitable<void> everything();

 private:
  core::Awaitable<void> punch_dead_blocks(std::uint64_t runs_max);
  core::Awaitable<void> give_back(std::uint64_t runs_max);

  Rooms rooms_;
  std::function<bool()> idle_;
  bool punches_;
};

}  // namespace qcow2
