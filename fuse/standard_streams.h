// stdin and stdout: as byte streams of any length, and for what a command answers. All of it blocks.
#pragma once

#include <cstddef>
#include <string>

#include "core/bytes.h"

namespace fuse {

// For the engine's io() pool.

/// Fills `target` as far as the stream goes; less means that it has ended. Throws core::Error that names stdin.
std::size_t read_stream(int descriptor, core::MutableBytes target);

/// Throws core::Error that names stdout.
void write_stream(int descriptor, core::Bytes source);

/// Prints a part of a longer text, which goes out at the latest with the next print(). Throws core::Error that names
/// stdout.
void print_part(const std::string& text);
/// Prints, and sees to it that it arrives.
void print(const std::string& text);

}  // namespace fuse
