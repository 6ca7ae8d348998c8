// What `qcowfs compact` prints: how large an image was, and is.
#pragma once

#include <cstdint>
#include <optional>

namespace fuse {

struct ImageSize {
  std::uint64_t allocated = 0;          ///< bytes on the host
  std::optional<std::uint64_t> length;  ///< bytes to the end of the file, where that is known
};

/// On stdout. Throws core::Error.
void say_sizes(const ImageSize& before, const ImageSize& after);

}  // namespace fuse
