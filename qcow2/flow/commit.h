// The only place that makes things durable, in order.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "core/async.h"
#include "core/engine.h"
#include "core/fail_stop.h"
#include "core/patient_file.h"
#include "qcow2/flow/assembler.h"
#include "qcow2/flow/placer.h"
#include "qcow2/flow/reader.h"
#include "qcow2/host/readers.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// Errors     Throws the sticky failure: after one failed write or barrier every later call throws it. Where the host
/// is
///            short of space, ENOSPC: then nothing is lost, and a later call goes on where this one stopped.
/// Threads    The engine's strand; any number of callers share commits.
class Commit {
 public:
  struct Rooms {
    core::PatientFile& file;
    Assembler& assembler;
    Placer& placer;
    CompressedWriteCache& cache;
    Refcounts& refcounts;
    ClusterAllocator& clusters;
    BlockUse& block_use;
    GuestMap& map;
    Reader& reader;
    Readers& readers;
    core::FailStop& failure;
  };

  Commit(core::Engine& engine, Rooms rooms, const Geometry& geometry)
      : engine_(engine), rooms_(rooms), geometry_(geometry), last_froze_(engine.now()) {}

  /// Everything that was visible before the call is durable when it completes. Throws what keeps single clusters from
  /// being completed (see Assembler::drain) after all others are durable.
  core::Awaitable<void> flush();
  /// All that is in the map is durable when it completes: not what is still being gathered.
  core::Awaitable<void> publish();
  /// flush(), and all that earlier batches gave up is given back, durably: no leak remains.
  core::Awaitable<void> finish();
  /// Suspends while the open batch is far larger than a batch should get.
  core::Awaitable<void> wait_for_room();
  std::uint64_t batches_made_durable() const { return durable_batch_; }
  /// The open batch has grown enough to be committed in the background.
  bool large() const { return exceeds(1); }
  /// At least one batch was begun.
  bool changed_image() const { return open_batch_ > 1; }
  /// Changes are waiting, or space is waiting to be given back.
  bool pending() const;
  /// When the last batch was closed.
  std::chrono::steady_clock::time_point last_froze() const { return last_froze_; }
  /// Nothing is under way, nor waiting to be made durable.
  bool at_rest() const {
    return !running_ && !staged_ && reclaiming_ == 0 && rooms_.map.open_changes().empty() &&
           !rooms_.placer.overwritten() && rooms_.assembler.empty();
  }
  /// Suspends until no batch is under way and all that the durable ones gave up is free again.
  core::Awaitable<void> wait_until_idle();
  /// What is under way has ended, well or badly.
  core::Awaitable<void> join();
  /// The failure or the shortage of space is another one than before: whoever waits must look again.
  void wake_all() { progress_.wake_all(); }

 private:
  core::Awaitable<void> run();
  core::Awaitable<void> step();
  core::Awaitable<void> stage(bool alone);
  bool freeze();
  void settle();
  core::Awaitable<void> reclaim(Lost lost);
  core::Awaitable<void> make_durable_to(std::uint64_t batch);
  void adopt_superseded();
  std::uint64_t lost_bytes_max() const;
  bool exceeds(std::uint64_t factor) const;

  core::Engine& engine_;
  Rooms rooms_;
  Geometry geometry_;
  std::uint64_t open_batch_ = 1;       ///< number of the batch that is being filled
  std::uint64_t requested_batch_ = 0;  ///< somebody waits for the durability of this one and all before it
  std::uint64_t durable_batch_ = 0;
  bool staged_ = false;                 ///< the batch before the open one needs only its names written
  bool settles_ = false;                ///< the step under way brings the names of a batch to the file
  std::uint64_t stored_at_freeze_ = 0;  ///< bytes, of Placer::stored_bytes()
  bool running_ = false;                ///< run() is
  std::uint64_t reclaiming_ = 0;        ///< durable batches whose old space is not free yet
  std::chrono::steady_clock::time_point last_froze_;
  core::WaitList progress_;
};

}  // namespace qcow2
