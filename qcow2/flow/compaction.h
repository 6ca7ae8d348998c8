// Makes an image smaller in place: fragments slide together towards the file's beginning, then the end moves into what
// is free before it, and is cut off.
#pragma once

#include "core/engine.h"
#include "core/guest_disk.h"
#include "core/patient_file.h"
#include "qcow2/flow/change_gate.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/giving_back.h"
#include "qcow2/flow/mover.h"
#include "qcow2/flow/residents.h"
#include "qcow2/host/fragment_allocator.h"

namespace qcow2 {

/// Takes no more space than some batches of moves at a time: what a batch leaves is free for the next one.
///
/// Errors     As Mover; whatever has been moved by then is durable or as it was.
/// Threads    The engine's strand; the guest may do whatever it likes meanwhile.
class Compaction {
 public:
  struct Rooms {
    ChangeGate& gate;
    core::PatientFile& file;
    Commit& commit;
    Mover& mover;
    GuestMap& map;
    Refcounts& refcounts;
    ClusterAllocator& clusters;
    FragmentAllocator& fragments;
    Placer& placer;
    GivingBack& giving_back;
  };

  /// `disk_size` is the guest's, in bytes, and may change meanwhile; `chunk` is what fragments take at a time, in
  /// clusters. `recompressor` may be null.
  Compaction(Rooms rooms, const Geometry& geometry, std::uint32_t version, std::uint64_t chunk,
             const std::uint64_t& disk_size, const Codec* recompressor, const core::CompactOrder& order);

  core::Awaitable<void> run();

 private:
  core::Awaitable<void> slide_together();
  core::Awaitable<void> lower_the_end();
  core::Awaitable<bool> lower_once();
  core::Awaitable<void> move_tables(HostCluster limit);
  core::Awaitable<std::vector<Resident>> in_window(HostCluster from, HostCluster to);
  core::Awaitable<void> move_all(std::vector<Resident> residents, const Codec* recompressor);
  core::Awaitable<void> settle();
  std::size_t first_worth_moving(const std::vector<Resident>& residents, HostCluster from,
                                 HostCluster first_free) const;
  HostCluster file_end() const { return {geometry_.host_clusters(rooms_.file.size())}; }

  Rooms rooms_;
  Geometry geometry_;
  std::uint32_t version_;
  std::uint64_t chunk_;
  const std::uint64_t& disk_size_;
  const Codec* recompressor_;
  const core::CompactOrder& order_;
  std::uint64_t moved_bytes_ = 0;  ///< since the last settle()
};

}  // namespace qcow2
