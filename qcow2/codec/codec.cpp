// Where a codec is chosen: nobody else names the two.
#include "qcow2/codec/codec.h"

#include "core/error.h"
#include "qcow2/codec/deflate.h"
#include "qcow2/codec/zstd.h"

namespace qcow2 {

std::unique_ptr<Codec> make_codec(CompressionType type, int level, Window window) {
  if (level < level_min || level > level_max) {
    core::fail(core::Errc::bad_argument, "the compression level must lie between " + std::to_string(level_min) +
                                             " and " + std::to_string(level_max) + ", not " + std::to_string(level));
  }
  if (type == CompressionType::zlib) return std::make_unique<Deflate>(level, window);
  if (window != Window::narrow) {
    core::fail(core::Errc::bad_argument, "a window is chosen for images of type zlib; this one is of type zstd");
  }
  return std::make_unique<Zstd>(level);
}

}  // namespace qcow2
