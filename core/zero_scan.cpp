#include "core/zero_scan.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace core {

bool is_all_zero(Bytes bytes) {
  if (bytes.empty()) return true;
  std::array<std::uint64_t, 8> head{};
  const std::size_t head_size = std::min(bytes.size(), sizeof(head));
  std::memcpy(head.data(), bytes.data(), head_size);
  std::uint64_t bits = 0;
  for (const std::uint64_t word : head) bits |= word;
  if (bits != 0) return false;
  // The rest is zero where every byte equals the one 64 before it. memcmp is the widest loop that the machine
  // has, and its two streams are a cache line apart, so each line comes from memory once.
  return std::memcmp(bytes.data(), bytes.data() + head_size, bytes.size() - head_size) == 0;
}

}  // namespace core
