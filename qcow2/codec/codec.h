// Bytes to fewer bytes and back. CPU only: no I/O, no allocation that an image could make large.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/bytes.h"
#include "core/zero_scan.h"
#include "qcow2/format/compression_type.h"

namespace qcow2 {

/// 1 is fastest, 9 smallest, the same scale for both types. What a step means stands in deflate.cpp and zstd.cpp.
inline constexpr int level_min = 1;
inline constexpr int level_max = 9;
inline constexpr int level_default = 1;

/// How far back a deflate stream may refer. Readers that inflate a cluster by one call, as QEMU does, take both; one
/// that does so in steps, with the window of 4 KiB that the format speaks of, takes only the narrow one.
enum class Window { narrow, wide };  ///< 4 KiB, 32 KiB

/// Threads    Every method may be called from any number of threads at once.
/// Errors     By return value only; never throws on what the bytes contain.
class Codec {
 public:
  virtual ~Codec() = default;
  /// Compresses all of `plain` into the front of `target` and returns the bytes used, or nothing where they don't fit.
  virtual std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) const = 0;
  /// Fills `plain` exactly from a stream at the front of `stored`, whatever follows it there. False where the stream is
  /// damaged or shorter than `plain`. Accepts everything QEMU's reader accepts: see FORMAT.md.
  virtual bool decompress(core::Bytes stored, core::MutableBytes plain) const = 0;
  /// The same, and how many bytes of `stored` the stream takes, at most; nothing in place of false.
  virtual std::optional<std::size_t> measure(core::Bytes stored, core::MutableBytes plain) const = 0;
};

/// Throws bad_argument for a level outside the scale, and for a window that the type does not have.
std::unique_ptr<Codec> make_codec(CompressionType type, int level, Window window = Window::narrow);

using core::is_all_zero;  // the cheapest codec of all

}  // namespace qcow2
