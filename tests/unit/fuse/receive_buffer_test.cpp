// The way of a payload out of the receive buffer.
#include "fuse/receive_buffer.h"

#include <gtest/gtest.h>

#include <cstring>

namespace {

constexpr std::size_t headers_size = 80;

core::Bytes payload_of(const fuse_buf& request, std::size_t size) {
  return {static_cast<const std::byte*>(request.mem) + headers_size, size};
}

bool is_page_aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % 4096 == 0; }

TEST(ReceiveBuffer, PayloadsArePageAligned) {
  fuse::ReceiveBuffer buffer;
  EXPECT_TRUE(is_page_aligned(payload_of(buffer.prepare(), 1).data()));
}

TEST(ReceiveBuffer, ALargePayloadIsKeptWhereItLies) {
  fuse::ReceiveBuffer buffer;
  const fuse_buf first = buffer.prepare();
  const core::Bytes payload = payload_of(first, fuse::ReceiveBuffer::payload_max);
  std::memset(static_cast<std::byte*>(first.mem) + headers_size, 7, payload.size());
  const core::SharedBytes kept = buffer.keep(payload);
  EXPECT_EQ(kept.bytes.data(), payload.data());
  EXPECT_NE(buffer.prepare().mem, first.mem) << "the next request would overwrite it";
  EXPECT_EQ(kept.bytes.back(), std::byte{7});
}

TEST(ReceiveBuffer, ASmallPayloadIsCopiedAndTheMemoryUsedAgain) {
  fuse::ReceiveBuffer buffer;
  const fuse_buf first = buffer.prepare();
  std::memset(static_cast<std::byte*>(first.mem) + headers_size, 7, 512);
  const core::SharedBytes kept = buffer.keep(payload_of(first, 512));
  EXPECT_EQ(buffer.prepare().mem, first.mem);
  std::memset(static_cast<std::byte*>(first.mem) + headers_size, 8, 512);
  ASSERT_EQ(kept.size(), 512u);
  EXPECT_EQ(kept.bytes.front(), std::byte{7});
  EXPECT_EQ(kept.bytes.back(), std::byte{7});
}

TEST(ReceiveBuffer, MemoryThatNothingWasKeptOfIsUsedAgain) {
  fuse::ReceiveBuffer buffer;
  const void* const first = buffer.prepare().mem;
  EXPECT_EQ(buffer.prepare().mem, first);
}

}  // namespace
