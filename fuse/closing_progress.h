// Tells whoever waits for the end of a mount how much is left to be stored.
#pragma once

#include <boost/asio/steady_timer.hpp>

#include "core/async.h"
#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/control.h"

namespace fuse {

/// Threads    The engine's. All arguments must outlive it; once started, stop() must be awaited.
class ClosingProgress {
 public:
  ClosingProgress(core::Engine& engine, const core::GuestDisk& disk, Control& control);

  void start();
  core::Awaitable<void> stop();

 private:
  core::Awaitable<void> tell();

  core::Engine& engine_;
  const core::GuestDisk& disk_;
  Control& control_;
  boost::asio::steady_timer timer_;
  bool running_ = false;
  bool stopping_ = false;
  core::WaitList stopped_;
};

}  // namespace fuse
