// A raw image as a disk: its bytes are the disk's. For reading only.
#pragma once

#include <memory>

#include "core/direct_file.h"
#include "core/guest_disk.h"

namespace core {

/// Its size is that of the file, rounded up to a sector with zeros, as QEMU reads raw images.
/// Threads    The engine's strand.
class RawDisk final : public GuestDisk {
 public:
  RawDisk(Engine& engine, std::unique_ptr<DirectFile> file);

  std::uint64_t size() const override { return size_; }
  std::uint32_t cluster_size() const override;
  std::uint64_t allocated_bytes() const override { return file_->allocated_bytes().value_or(size_); }
  bool read_only() const override { return true; }
  ErrorCode failure() const override { return {}; }

  Awaitable<void> read(DiskOffset at, MutableBytes target) override;
  Awaitable<void> write(DiskOffset at, SharedBytes payload) override;
  Awaitable<void> zero(DiskOffset at, std::uint64_t length) override;
  Awaitable<void> resize(std::uint64_t size) override;
  Awaitable<void> flush() override { co_return; }
  /// Holes are what the file system knows as holes.
  Awaitable<std::uint64_t> next_data(DiskOffset at) override;
  Awaitable<std::uint64_t> next_hole(DiskOffset at) override;
  Awaitable<void> close() override { co_return; }

 private:
  Awaitable<std::uint64_t> seek(DiskOffset at, int whence);

  Engine& engine_;
  std::unique_ptr<DirectFile> file_;
  std::uint64_t size_;
};

}  // namespace core
