// What earlier owners of the image left: which blocks its fragments touch.
#pragma once

#include <vector>

#include "core/block_file.h"
#include "qcow2/format/geometry.h"
#include "qcow2/host/block_use.h"

namespace qcow2 {

/// Reads all of `tables`, the image's L2 tables (0 for none), and tells `block_use` of every fragment. Must be done
/// before anything is placed. Only for images whose fragments all have their names there: not where a snapshot may have
/// others.
///
/// A cluster that is named as something else too is left untracked: what looks dead in it may be that. So is one that
/// does not lie below byte `end` of the file: a hole of terabytes with something behind it must cost neither time nor
/// memory. What dies there is free when all of its cluster is.
/// Memory     A table, and a bit for each host cluster below `end`, while it runs.
/// Errors     Throws the device's error.     Threads    The engine's strand.
core::Awaitable<void> survey(core::BlockFile& file, std::vector<HostOffset> tables, Geometry geometry,
                             std::uint64_t end, BlockUse& block_use);

}  // namespace qcow2
