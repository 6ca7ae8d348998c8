// Unmounts when nobody has used the disk for a while.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "core/async.h"
#include "core/engine.h"
#include "fuse/activity.h"
#include "fuse/mount_plan.h"
#include "fuse/sandbox/privileged_helper.h"
#include "fuse/session.h"

namespace fuse {

/// It only ever unmounts what nothing keeps busy: a program with its current directory there, or one that comes at the
/// last moment, keeps the mount. The session then ends as it does by umount(8).
/// Threads    The engine's. All arguments must outlive it.
class IdleWatch {
 public:
  IdleWatch(core::Engine& engine, Session& session, PrivilegedHelper& helper, const MountPlan& plan,
            const Activity& activity);

  /// Does nothing where the plan has no such time.
  void start();
  /// Must be awaited once started: an unmount may be under way.
  core::Awaitable<void> stop();

 private:
  core::Awaitable<void> watch();
  core::Awaitable<bool> try_to_unmount();

  core::Engine& engine_;
  Session& session_;
  PrivilegedHelper& helper_;
  const MountPlan& plan_;
  const Activity& activity_;
  boost::asio::steady_timer timer_;
  bool running_ = false;
  bool stopping_ = false;
  core::WaitList stopped_;
};

}  // namespace fuse
