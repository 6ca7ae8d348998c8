// stdin and stdout as byte streams of any length. Blocks: for the engine's io() pool.
#pragma once

#include <cstddef>

#include "core/bytes.h"

namespace fuse {

/// Fills `target` as far as the stream goes; less means that it has ended. Throws core::Error that names stdin.
std::size_t read_stream(int descriptor, core::MutableBytes target);

/// Throws core::Error that names stdout.
void write_stream(int descriptor, core::Bytes source);

}  // namespace fuse
