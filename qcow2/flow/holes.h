// Where the disk holds data and where it surely reads as zeros.
#pragma once

#include <cstdint>

#include "qcow2/flow/assembler.h"
#include "qcow2/flow/backing.h"
#include "qcow2/host/readers.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

enum class Sought { data, hole };

/// Threads    The engine's strand.
class Holes {
 public:
  struct Rooms {
    Assembler& assembler;
    GuestMap& map;
    Backing& backing;
    Readers& readers;
  };

  Holes(Rooms rooms, const Geometry& geometry, std::uint32_t version)
      : rooms_(rooms), geometry_(geometry), version_(version) {}

  /// Behind the clusters from `cluster` on that surely hold nothing; `cluster` itself where it may hold something.
  GuestCluster end_of_nothing(GuestCluster cluster, GuestOffset limit) const;
  /// The first byte from `at` on that is what was sought, or `disk_size`. What is dirty counts as data: the caller
  /// drains the assembler first.
  core::Awaitable<std::uint64_t> seek(GuestOffset at, Sought sought, std::uint64_t disk_size);

 private:
  struct Stretch {  // from the byte asked for on
    Shows shows;
    GuestOffset end;
  };
  core::Awaitable<Stretch> stretch_at(GuestOffset at, std::uint64_t disk_size);
  core::Awaitable<std::uint64_t> seek_below(GuestOffset at, Sought sought);

  Rooms rooms_;
  Geometry geometry_;
  std::uint32_t version_;
};

}  // namespace qcow2
