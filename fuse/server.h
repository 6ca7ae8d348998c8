// Serves one disk at one mount point from the mount to the last answer, whoever ends it.
#pragma once

#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/control.h"
#include "fuse/daemon.h"
#include "fuse/mount_plan.h"
#include "fuse/sandbox/privileged_helper.h"

namespace fuse {

/// Mounts what of `disk` the plan asks for, calls startup.live(), and returns when the mount is gone, every request is
/// answered and the disk is closed. It ends by umount(8), or by SIGTERM, SIGINT or SIGHUP, which store everything and
/// unmount.
///
/// Errors     Throws core::Error where it cannot mount (startup is not live then), or where something written
/// could not
///            be stored (startup is live). The disk is closed in any case.
/// Ownership  All are borrowed until it returns. `control` was told that the mount ends, but not how.
core::Awaitable<void> serve(core::Engine& engine, core::GuestDisk& disk, const MountPlan& plan, Startup& startup,
                            Control& control, PrivilegedHelper& helper);

}  // namespace fuse
