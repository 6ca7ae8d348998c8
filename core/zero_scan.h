// Finds out whether bytes need storing at all. Runs on everything that is written, so it must cost next to nothing.
#pragma once

#include "core/bytes.h"

namespace core {

/// Reads as zeros from end to end.
bool is_all_zero(Bytes bytes);

}  // namespace core
