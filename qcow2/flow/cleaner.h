// In the background: empties host clusters whose blocks are only partly used, so that they become free as a whole.
#pragma once

#include <functional>
#include <vector>

#include "core/engine.h"
#include "core/patient_file.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/mover.h"
#include "qcow2/flow/residents.h"
#include "qcow2/host/block_use.h"
#include "qcow2/host/fragment_allocator.h"

namespace qcow2 {

/// Dead blocks are used again or given back in any case; what is gained here is what has died in blocks that others
/// still live in.
/// Threads    The engine's strand; rounds must not overlap.
class Cleaner {
 public:
  struct Rooms {
    core::PatientFile& file;
    Commit& commit;
    Mover& mover;
    GuestMap& map;
    FragmentAllocator& fragments;
    BlockUse& block_use;
  };

  Cleaner(core::Engine& engine, Rooms rooms, const Geometry& geometry, std::uint32_t version,
          const std::uint64_t& disk_size, std::uint64_t waste_min)
      : engine_(engine),
        rooms_(rooms),
        geometry_(geometry),
        version_(version),
        disk_size_(disk_size),
        waste_min_(waste_min) {}

  /// Worth emptying: of the blocks that are touched, a quarter is nobody's.
  static bool is_sparse(const BlockUse& block_use, HostCluster cluster) {
    const BlockUse::Touched touched = block_use.touched(cluster);
    return touched.bytes != 0 && touched.waste() >= touched.bytes / 4;
  }
  /// Enough is wasted that a round may be worth it.
  bool due() const;
  /// Empties the sparsest clusters of the next part of the file. Between its moves it sleeps for `pause` times as long
  /// as they took, and ends where `cancelled` says so.
  core::Awaitable<void> a_round(unsigned pause, std::function<bool()> cancelled);

 private:
  struct Victims {
    std::vector<HostCluster> clusters;  ///< in order
    std::uint64_t live = 0;             ///< bytes to be moved
    std::uint64_t waste = 0;            ///< bytes to be gained
  };
  Victims choose();

  core::Engine& engine_;
  Rooms rooms_;
  Geometry geometry_;
  std::uint32_t version_;
  const std::uint64_t& disk_size_;
  std::uint64_t waste_min_;
  HostCluster next_{0};           ///< where the next round looks
  std::uint64_t fruitless_ = 0;   ///< clusters looked at since the last that was worth emptying
  std::uint64_t waste_then_ = 0;  ///< when all of the file had been looked at in vain
};

}  // namespace qcow2
