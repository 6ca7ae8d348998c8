// One power-on of the machine: an engine, its disk, and the coroutines that run on them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/crash/history.h"
#include "tests/crash/profile.h"
#include "tests/crash/seeded_engine.h"
#include "tests/crash/simulated_disk.h"
#include "tests/crash/workload.h"

namespace crash {

/// What became of an open image.
struct Outcome {
  std::string wrong;    ///< a breach of a promise; empty for none
  std::string failure;  ///< an error that the guest was told, or open_image threw
  bool opened = false;
};

/// Runs `task` on the engine until it ends; false where it hangs.
bool drive(SeededEngine& engine, core::Awaitable<void> task);

/// Opens the image on the disk, lets the guest live, closes. `Outcome::wrong` also names hangs and misuse of the disk.
class Session {
 public:
  Session(SeededEngine& engine, SimulatedDisk& disk, History& history)
      : engine_(engine), disk_(disk), history_(history) {}
  Outcome run(const qcow2::ImageOptions& options, const Habits& habits, std::uint64_t seed);
  /// Opens read-only and compares every byte.
  Outcome read_everything(qcow2::ImageOptions options);

 private:
  core::Awaitable<void> use(qcow2::ImageOptions options, Habits habits, std::uint64_t seed, Outcome& outcome);
  Outcome finish(bool ended, Outcome outcome) const;

  SeededEngine& engine_;
  SimulatedDisk& disk_;
  History& history_;
};

}  // namespace crash
