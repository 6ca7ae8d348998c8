// Moves a disk from a source to a target, several pieces at a time.
#pragma once

#include "core/engine.h"
#include "fuse/copy_source.h"
#include "fuse/copy_target.h"
#include "fuse/progress.h"

namespace fuse {

/// Copies everything and finishes the target. The first failure ends it: throws what the source or the target threw.
/// All arguments must outlive it. Threads: the engine's strand.
core::Awaitable<void> copy_disk(core::Engine& engine, CopySource& source, CopyTarget& target, Progress& progress);

}  // namespace fuse
