// Views of bytes and the buffers that own them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace core {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

/// Bytes in all the pieces of one transfer.
inline std::uint64_t total_size(std::span<const Bytes> pieces) {
  std::uint64_t total = 0;
  for (const Bytes piece : pieces) total += piece.size();
  return total;
}
/// Puts them one after the other at `target`, which has room for total_size().
inline void copy_pieces(std::span<const Bytes> pieces, std::byte* target) {
  for (const Bytes piece : pieces) target = std::copy(piece.begin(), piece.end(), target);
}

inline constexpr std::size_t memory_alignment = 4096;  ///< what every O_DIRECT device accepts

/// Owned memory, `memory_alignment`-aligned, of a size fixed at birth. Move-only; the content starts undefined.
/// Large buffers are recycled inside the process: fresh pages cost more than what is done with them.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size);
  Buffer(Buffer&& other) noexcept : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  static Buffer zeroed(std::size_t size);

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return memory_.get(); }
  const std::byte* data() const { return memory_.get(); }
  MutableBytes span() { return {data(), size_}; }
  Bytes span() const { return {data(), size_}; }

 private:
  struct Release {
    std::size_t capacity;
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Release> memory_;
  std::size_t size_ = 0;
};

/// An immutable view that keeps whatever owns its bytes alive. Cheap to copy and to slice; safe to hand to threads.
struct SharedBytes {
  std::shared_ptr<const void> owner;
  Bytes bytes;

  SharedBytes() = default;
  SharedBytes(std::shared_ptr<const void> keeper, Bytes view) : owner(std::move(keeper)), bytes(view) {}
  explicit SharedBytes(std::shared_ptr<const Buffer> buffer) : owner(buffer), bytes(buffer->span()) {}

  std::size_t size() const { return bytes.size(); }
  SharedBytes slice(std::size_t offset, std::size_t length) const { return {owner, bytes.subspan(offset, length)}; }
};

}  // namespace core
