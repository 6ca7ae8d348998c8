// What went wrong, in the kernel's words.
#pragma once

#include <exception>

#include "core/error.h"

namespace fuse {

/// The errno that a program sees. Total: whatever has no word of its own is EIO, and never 0.
int to_errno(const core::ErrorCode& code);
int to_errno(const std::exception& error);

}  // namespace fuse
