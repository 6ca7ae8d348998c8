// Keeps a second writer away from the image: locks that QEMU's tools respect, and whose locks we respect.
#pragma once

#include <string>

#include "core/direct_file.h"

namespace core {

/// Locks the open file behind `descriptor`, or throws image_locked with one line that names `path`: after a quarter
/// of a second, for who looks at the same moment may go away again. Blocks for as long.
///
/// Ownership  The locks belong to the open file description: they are held until the last duplicate of
/// `descriptor`
///            is closed, and a copy that a child process inherits holds them too.
/// Meaning    With Access::read_only any number of readers share the image and no writer may join; with
///            Access::read_write nobody else may read it either, as half of what it says is in our memory.
void lock_image(int descriptor, Access access, const std::string& path);

}  // namespace core
