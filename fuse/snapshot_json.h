// An internal snapshot for programs, with the names that qemu-img uses.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>

#include "qcow2/info.h"

namespace fuse {

inline boost::json::object snapshot_json(const qcow2::Snapshot& snapshot) {
  constexpr std::uint64_t second = 1'000'000'000;  // in nanoseconds
  boost::json::object entry;
  entry["id"] = snapshot.id;
  entry["name"] = snapshot.name;
  entry["vm-state-size"] = snapshot.vm_state_size;
  entry["date-sec"] = snapshot.seconds;
  entry["date-nsec"] = snapshot.nanoseconds;
  entry["vm-clock-sec"] = snapshot.guest_clock / second;
  entry["vm-clock-nsec"] = snapshot.guest_clock % second;
  if (snapshot.instruction_count) entry["icount"] = *snapshot.instruction_count;
  return entry;
}

}  // namespace fuse
