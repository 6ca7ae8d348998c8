// Where a codec is chosen: nobody else names the two.
#include "qcow2/codec/codec.h"

#include "core/error.h"
#include "qcow2/codec/deflate.h"
#include "qcow2/codec/zstd.h"

namespace qcow2 {

std::unique_ptr<Codec> make_codec(CompressionType type, int level) {
  if (level < level_min || level > level_max) {
    core::fail(core::Errc::bad_argument, "the compression level must lie between " + std::to_string(level_min) +
                                             " and " + std::to_string(level_max) + ", not " + std::to_string(level));
  }
  if (type == CompressionType::zstd) return std::make_unique<Zstd>(level);
  return std::make_unique<Deflate>(level);
}

}  // namespace qcow2
