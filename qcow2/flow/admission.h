// Whether another cluster may become dirty: there is memory for it, and space on the host.
#pragma once

#include <cstdint>

#include "core/async.h"
#include "qcow2/flow/assembler.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/placer.h"
#include "qcow2/flow/reader.h"
#include "qcow2/host/refcounts.h"
#include "qcow2/host/space_reserve.h"
#include "qcow2/limits.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// Threads    The engine's strand.
class Admission {
 public:
  struct Rooms {
    Commit& commit;
    Assembler& assembler;
    Placer& placer;
    GuestMap& map;
    Refcounts& refcounts;
    SpaceReserve& space;
    Reader& reader;
  };

  /// `chunk` is what fragments take at a time, in clusters.
  Admission(Rooms rooms, const Geometry& geometry, const limits::Budget& budget, std::uint64_t chunk)
      : rooms_(rooms), geometry_(geometry), budget_(budget), chunk_(chunk) {}

  /// Suspends until another cluster of a disk of `disk_size` bytes may become dirty. Throws ENOSPC where the host could
  /// not store it, or why nothing can become dirty any more.
  core::Awaitable<void> admit(std::uint64_t disk_size);
  /// Sets aside on the host what a disk of `disk_size` bytes needs for one more dirty cluster. Throws ENOSPC.
  core::Awaitable<void> ensure_space(std::uint64_t disk_size);
  /// Space for `clusters` that somebody is about to move, while it exists.
  class Claim {
   public:
    Claim(Admission& admission, std::uint64_t clusters) : admission_(admission), clusters_(clusters) {
      admission_.claimed_ += clusters;
    }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim() { admission_.claimed_ -= clusters_; }

   private:
    Admission& admission_;
    std::uint64_t clusters_;
  };
  void set_budget(const limits::Budget& budget) { budget_ = budget; }
  /// What is dirty and what is remembered for reading share the memory; what is dirty comes first.
  void share_memory();

 private:
  std::uint64_t clusters_needed(std::uint64_t disk_size) const;

  Rooms rooms_;
  Geometry geometry_;
  limits::Budget budget_;
  std::uint64_t chunk_;
  std::uint64_t claimed_ = 0;  ///< clusters
};

}  // namespace qcow2
