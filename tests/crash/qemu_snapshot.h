// Internal snapshots, taken by the program that everybody takes them with.
#pragma once

#include <optional>

#include "tests/crash/simulated_disk.h"

namespace crash {

/// The image with one more snapshot; nothing where qemu-img takes none, as when a refcount has no room for it.
std::optional<Image> with_snapshot(core::Bytes image);

}  // namespace crash
