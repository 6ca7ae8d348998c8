// Many small writes as few large ones.
#pragma once

#include <utility>
#include <vector>

#include "core/block_file.h"
#include "core/engine.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

using PendingWrite = std::pair<HostOffset, core::Buffer>;

/// Writes them all, neighbours joined, several at once, in no promised order. They must not overlap.
core::Awaitable<void> write_all(core::Engine& engine, core::BlockFile& file, std::vector<PendingWrite> writes);

}  // namespace qcow2
