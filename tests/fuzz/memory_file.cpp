#include "tests/fuzz/memory_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace fuzz {
namespace {

constexpr std::uint64_t size_max = 64 << 20;  // a full device, far below what a fuzzer may take

}  // namespace

void MemoryFile::require_room(std::uint64_t size) const {
  if (size > size_max) core::fail_errno(ENOSPC, "a file in memory");
}

core::Awaitable<void> MemoryFile::read_at(core::FileOffset at, core::MutableBytes target) {
  std::fill(target.begin(), target.end(), std::byte{0});
  if (at.value < content_.size() && !target.empty()) {
    std::memcpy(target.data(), content_.data() + at.value, std::min(target.size(), content_.size() - at.value));
  }
  co_return;
}

core::Awaitable<void> MemoryFile::write_at(core::FileOffset at, std::span<const core::Bytes> pieces) {
  const std::uint64_t length = core::total_size(pieces);
  require_room(std::max(at.value, at.value + length));
  if (content_.size() < at.value + length) content_.resize(at.value + length);
  core::copy_pieces(pieces, content_.data() + at.value);
  co_return;
}

core::Awaitable<void> MemoryFile::truncate(std::uint64_t size) {
  require_room(size);
  content_.resize(size);
  co_return;
}

core::Awaitable<bool> MemoryFile::punch(core::FileOffset at, std::uint64_t length) {
  const std::uint64_t end = std::min<std::uint64_t>(at.value + length, content_.size());
  if (at.value < end) std::memset(content_.data() + at.value, 0, end - at.value);
  co_return true;
}

}  // namespace fuzz
