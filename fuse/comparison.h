// Whether two disks are the same, read side by side.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "core/engine.h"
#include "fuse/images.h"
#include "fuse/progress.h"

namespace fuse {

/// What is allocated in one of them could not be found out.
class AllocationUnknown : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The first byte before `end` in which they differ; nothing where they are the same. A disk counts as zeros beyond its
/// end. Throws AllocationUnknown, or core::Error that names the image that cannot be read. All arguments must outlive
/// it. Threads: the engine's strand.
core::Awaitable<std::optional<std::uint64_t>> first_difference(core::Engine& engine, Source& left, Source& right,
                                                               std::uint64_t end, Progress& progress);

}  // namespace fuse
