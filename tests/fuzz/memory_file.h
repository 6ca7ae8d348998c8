// A block file in memory that needs no engine: it is done before it is asked twice.
#pragma once

#include <vector>

#include "core/block_file.h"

namespace fuzz {

class MemoryFile final : public core::BlockFile {
 public:
  std::size_t block_size() const override { return 512; }
  std::uint64_t size() const override { return content_.size(); }
  std::optional<std::uint64_t> allocated_bytes() const override { return content_.size(); }

  core::Awaitable<void> read_at(core::FileOffset at, core::MutableBytes target) override;
  using core::BlockFile::write_at;
  core::Awaitable<void> write_at(core::FileOffset at, std::span<const core::Bytes> pieces) override;
  core::Awaitable<void> barrier() override { co_return; }
  core::Awaitable<void> truncate(std::uint64_t size) override;
  core::Awaitable<bool> reserve(core::FileOffset, std::uint64_t) override { co_return false; }
  core::Awaitable<bool> punch(core::FileOffset at, std::uint64_t length) override;

 private:
  void require_room(std::uint64_t size) const;

  std::vector<std::byte> content_;
};

}  // namespace fuzz
