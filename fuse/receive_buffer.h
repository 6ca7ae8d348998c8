// The memory that requests are read into, laid out so that the payload of a write can be kept without copying
// it.
#pragma once

#include <memory>

#include "core/bytes.h"
#include "fuse/libfuse.h"

namespace fuse {

/// Ownership  The memory belongs to the request being processed; what keep() returned outlives it.
/// Threads    The engine's.
class ReceiveBuffer {
 public:
  /// The largest payload of one write.
  static constexpr std::size_t payload_max = 1 << 20;

  ReceiveBuffer();

  /// Where the next request goes. Taken from the recycled buffers, unless the last request left its memory
  /// behind.
  fuse_buf& prepare();

  /// Makes `payload`, which lies in the request being processed, outlive it. A large one takes the whole
  /// memory along, page-aligned; a small one is copied, as it would otherwise pin more than a megabyte.
  core::SharedBytes keep(core::Bytes payload);

 private:
  std::size_t capacity_;
  std::shared_ptr<core::Buffer> memory_;
  fuse_buf buffer_{};
};

}  // namespace fuse
