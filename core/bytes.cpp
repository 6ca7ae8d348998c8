#include "core/bytes.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/alignment.h"

namespace core {
namespace {

// Freed buffers wait here by capacity. Small buffers go back to malloc, which recycles them well itself.
class Shelf {
 public:
  static constexpr std::size_t kept_from_bytes = 16 * 1024;
  static constexpr std::size_t kept_total_max = 16 * 1024 * 1024;

  std::byte* take(std::size_t capacity) {
    if (capacity >= kept_from_bytes) {
      const std::lock_guard lock(mutex_);
      auto& same_size = kept_[capacity];
      if (!same_size.empty()) {
        std::byte* memory = same_size.back();
        same_size.pop_back();
        kept_bytes_ -= capacity;
        return memory;
      }
    }
    void* memory = std::aligned_alloc(memory_alignment, capacity);
    if (memory == nullptr) throw std::bad_alloc{};
    return static_cast<std::byte*>(memory);
  }

  void put(std::byte* memory, std::size_t capacity) {
    if (capacity >= kept_from_bytes) {
      const std::lock_guard lock(mutex_);
      if (kept_bytes_ + capacity <= kept_total_max) {
        kept_[capacity].push_back(memory);
        kept_bytes_ += capacity;
        return;
      }
    }
    std::free(memory);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<std::byte*>> kept_;
  std::size_t kept_bytes_ = 0;
};

Shelf& shelf() {
  static Shelf* const instance = new Shelf;  // never destroyed: buffers may be released during static destruction
  return *instance;
}

}  // namespace

Buffer::Buffer(std::size_t size) : size_(size) {
  const std::size_t capacity = align_up(size == 0 ? 1 : size, memory_alignment);
  memory_ = std::unique_ptr<std::byte, Release>(shelf().take(capacity), Release{capacity});
}

Buffer Buffer::zeroed(std::size_t size) {
  Buffer buffer(size);
  std::memset(buffer.data(), 0, size);
  return buffer;
}

void Buffer::Release::operator()(std::byte* memory) const { shelf().put(memory, capacity); }

}  // namespace core
