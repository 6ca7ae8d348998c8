// A file in memory with a path, for what takes only paths.
#pragma once

#include <string>

#include "tests/support/open_image.h"

namespace fuzz {

/// One for each process, written anew each time.
std::string scratch_file(const test::Bytes& content);

}  // namespace fuzz
