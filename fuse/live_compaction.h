// The compaction of a mounted image, as an extended attribute starts, shows and ends it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/engine.h"
#include "core/guest_disk.h"

namespace fuse {

/// What runs goes on when this is destroyed: closing the disk ends it.
/// Threads    The engine's.
class LiveCompaction {
 public:
  LiveCompaction(core::Engine& engine, core::GuestDisk& disk);

  /// "idle", "running DONE TOTAL" in bytes of the file, "done", "stopped", or "failed" and why.
  std::string text() const;
  /// "on", a level from 1 to 9 to compress anew at, or "off". Returns 0, EBUSY where one runs, or EINVAL.
  int set(const std::string& value);

 private:
  struct State;
  static core::Awaitable<void> run(core::GuestDisk& disk, std::shared_ptr<State> state,
                                   std::optional<int> recompress_level);

  core::Engine& engine_;
  core::GuestDisk& disk_;
  std::shared_ptr<State> state_;
};

}  // namespace fuse
