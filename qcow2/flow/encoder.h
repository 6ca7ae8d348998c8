// Takes sealed clusters, completes and compresses them on the worker pool, has them placed, and names them in the map.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/async.h"
#include "core/engine.h"
#include "core/fail_stop.h"
#include "qcow2/codec/codec.h"
#include "qcow2/flow/assembler.h"
#include "qcow2/flow/placer.h"
#include "qcow2/flow/reader.h"
#include "qcow2/host/readers.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// Runs a fixed number of lanes, each with a few clusters in hand at a time: that bounds the memory, and keeps every
/// processor busy while some lanes wait for the disk. After a failure the lanes stop; what they had stays readable in
/// the assembler.
/// Threads    The engine's strand; compression happens on the pool.
class Encoder {
 public:
  struct Rooms {
    Assembler& assembler;
    Reader& reader;
    Backing& backing;
    Readers& readers;
    GuestMap& map;
    Placer& placer;
    const Codec& codec;
    core::FailStop& failure;
  };

  Encoder(core::Engine& engine, Rooms rooms, const Geometry& geometry, std::uint32_t version);

  /// As many as the workers need; more workers later need more. Lanes that are too many by then stay.
  void add_lanes();
  /// Compressed or not, but for zeros and for what was written over in place.
  std::uint64_t clusters_placed() const { return clusters_placed_; }
  /// The assembler must be closed; completes when the last lane has ended.
  core::Awaitable<void> join();

 private:
  struct Work;
  core::Awaitable<void> lane();
  core::Awaitable<void> encode(std::vector<std::shared_ptr<SealedCluster>> sealed, core::Buffer& scratch);
  core::Awaitable<void> find_base(Work& work);
  core::Awaitable<void> complete(std::vector<Work>& works);
  core::Awaitable<void> complete(Work& work);
  core::Awaitable<void> place_and_tell(Work& work);
  core::Awaitable<bool> place(Work& work, core::SharedBytes scratch);
  core::Awaitable<void> place_in_data_file(Work& work);
  core::Awaitable<bool> overwrite(GuestCluster guest, core::SharedBytes cluster);
  core::Awaitable<L2Entry> entry_of(GuestCluster cluster);
  /// Whether a cluster of zeros is told from one that shows what lies below.
  bool must_say_zero(GuestCluster cluster) const { return rooms_.backing.covers(geometry_.start_of(cluster)); }
  core::Awaitable<void> name(const SealedCluster& sealed, L2Entry entry);
  void put_back(const std::shared_ptr<SealedCluster>& sealed, const std::exception& error);

  core::Engine& engine_;
  Rooms rooms_;
  Geometry geometry_;
  std::uint32_t version_;
  std::size_t lanes_ = 0;
  std::uint64_t clusters_placed_ = 0;
  core::WaitList lane_ended_;
};

}  // namespace qcow2
