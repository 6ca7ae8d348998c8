#include "core/bytes.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

#include "core/alignment.h"

namespace core {
namespace {

// Freed buffers wait here by capacity; where there are too many, those that were not wanted for longest go. Small ones
// go back to malloc, which recycles them well itself.
class Shelf {
 public:
  static constexpr std::size_t kept_from_bytes = 16 * 1024;
  static constexpr std::size_t kept_total_max = 16 * 1024 * 1024;

  std::byte* take(std::size_t capacity) {
    if (capacity >= kept_from_bytes) {
      const std::lock_guard lock(mutex_);
      std::deque<Kept>& same_size = kept_[capacity];
      if (!same_size.empty()) {
        const Kept newest = same_size.back();
        std::byte* const memory = newest->memory;
        same_size.pop_back();
        by_age_.erase(newest);
        kept_bytes_ -= capacity;
        return memory;
      }
    }
    void* memory = std::aligned_alloc(memory_alignment, capacity);
    if (memory == nullptr) throw std::bad_alloc{};
    return static_cast<std::byte*>(memory);
  }

  void put(std::byte* memory, std::size_t capacity) {
    if (capacity < kept_from_bytes || capacity > kept_total_max) return std::free(memory);
    const std::lock_guard lock(mutex_);
    by_age_.push_back({memory, capacity});
    kept_[capacity].push_back(std::prev(by_age_.end()));
    kept_bytes_ += capacity;
    while (kept_bytes_ > kept_total_max) drop_oldest();
  }

 private:
  struct Buffer {
    std::byte* memory;
    std::size_t capacity;
  };
  using Kept = std::list<Buffer>::iterator;

  void drop_oldest() {
    const Buffer oldest = by_age_.front();
    kept_[oldest.capacity].pop_front();
    by_age_.pop_front();
    kept_bytes_ -= oldest.capacity;
    std::free(oldest.memory);
  }

  std::mutex mutex_;
  std::list<Buffer> by_age_;
  std::unordered_map<std::size_t, std::deque<Kept>> kept_;  // each in the order of age
  std::size_t kept_bytes_ = 0;
};

// Few different ones, so that what is freed fits what is wanted: four for each doubling.
std::size_t capacity_for(std::size_t size) {
  const std::size_t step = std::bit_floor(std::max<std::size_t>(size, 1)) / 4;
  return align_up(size == 0 ? 1 : size, std::max<std::size_t>(step, memory_alignment));
}

Shelf& shelf() {
  static Shelf* const instance = new Shelf;  // never destroyed: buffers may be released during static destruction
  return *instance;
}

}  // namespace

Buffer::Buffer(std::size_t size) : size_(size) {
  const std::size_t capacity = capacity_for(size);
  memory_ = std::unique_ptr<std::byte, Release>(shelf().take(capacity), Release{capacity});
}

Buffer Buffer::zeroed(std::size_t size) {
  Buffer buffer(size);
  std::memset(buffer.data(), 0, size);
  return buffer;
}

void Buffer::Release::operator()(std::byte* memory) const { shelf().put(memory, capacity); }

}  // namespace core
