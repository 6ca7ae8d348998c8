#include "fuse/receive_buffer.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cstring>

#include "core/check.h"

namespace fuse {
namespace {

// A write is a header, the write's own header and the payload: this much lies before the payload.
constexpr std::size_t payload_offset = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(payload_offset == 80, "the payload would not be aligned");

// Copying this much costs less than keeping memory of four times the size busy.
constexpr std::size_t kept_from_bytes = 256 * 1024;

// libfuse reads as much as it needs for 256 pages and their headers, and cannot be told less before the
// kernel agreed.
std::size_t bytes_that_libfuse_reads() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return 256 * page + 4096;
}

}  // namespace

ReceiveBuffer::ReceiveBuffer() : capacity_(core::memory_alignment - payload_offset + bytes_that_libfuse_reads()) {}

fuse_buf& ReceiveBuffer::prepare() {
  if (memory_ == nullptr) memory_ = std::make_shared<core::Buffer>(capacity_);
  buffer_ = fuse_buf{};
  buffer_.mem = memory_->data() + (core::memory_alignment - payload_offset);
  return buffer_;
}

core::SharedBytes ReceiveBuffer::keep(core::Bytes payload) {
  CHECK(memory_ != nullptr && payload.data() >= memory_->data() &&
        payload.data() + payload.size() <= memory_->data() + memory_->size());
  if (payload.size() >= kept_from_bytes) return core::SharedBytes(std::move(memory_), payload);
  auto copy = std::make_shared<core::Buffer>(payload.size());
  std::memcpy(copy->data(), payload.data(), payload.size());
  return core::SharedBytes(std::shared_ptr<const core::Buffer>(std::move(copy)));
}

}  // namespace fuse
