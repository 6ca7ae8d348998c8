// What a writable mount rests on: metadata in which nothing contradicts anything else.
#pragma once

#include <string>

#include "core/blocking_file.h"

namespace fuse {

/// Looks at all metadata of an image that is about to be written to, and gives leaked clusters back. Nothing where it
/// is sound, else the line that says why it is mounted read-only: writing could lose more, or nobody knows.
/// What is no image is left to whoever opens it.
/// Errors   Throws core::Error where somebody else has the image.
std::string why_not_writable(const std::string& image);
/// The same of one that is open already, and that messages call `name`.
/// Threads  Not the engine's strand.
std::string why_not_writable(core::BlockingFile& file, const std::string& name);

}  // namespace fuse
