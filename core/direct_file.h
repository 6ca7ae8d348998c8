// The image file on the host's file system, or a block device in its place, read and written past the page cache where
// that is allowed.
#pragma once

#include <sys/stat.h>

#include <map>
#include <string>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"
#include "core/unique_fd.h"

namespace core {

enum class DirectIo { automatic, on, off };
enum class Access { read_only, read_write };

/// Opens and owns the descriptor. With DirectIo::automatic a file system that refuses O_DIRECT is used through the page
/// cache with a warning; with DirectIo::on it is an error. Alignment comes from statx, 4096 bytes where it is silent.
///
/// Where space can be neither set aside nor given back, the first attempt says so with a warning.
///
/// A block device has the size that the kernel says, now: truncate() and reserve() throw ENOSPC beyond it and do
/// nothing within, and what was cut off keeps its bytes. Opened for writing it is claimed, so that nobody mounts it
/// meanwhile.
class DirectFile final : public BlockFile {
 public:
  DirectFile(Engine& engine, const std::string& path, Access access, DirectIo direct)
      : DirectFile(engine, path, access, direct, path) {}
  /// `name` is what messages call it.
  DirectFile(Engine& engine, const std::string& path, Access access, DirectIo direct, const std::string& name);

  std::size_t block_size() const override { return block_size_; }
  /// Asked of the kernel: writes end in any order, and the end of the file is cut off by what this says.
  std::uint64_t size() const override;
  std::optional<std::uint64_t> allocated_bytes() const override;

  Awaitable<void> read_at(FileOffset at, MutableBytes target) override;
  using BlockFile::write_at;
  Awaitable<void> write_at(FileOffset at, std::span<const Bytes> pieces) override;
  Awaitable<void> barrier() override;
  Awaitable<void> truncate(std::uint64_t size) override;
  Awaitable<bool> reserve(FileOffset at, std::uint64_t length) override;
  Awaitable<bool> punch(FileOffset at, std::uint64_t length) override;

  int descriptor() const { return fd_.get(); }
  bool direct() const { return direct_; }

 private:
  struct stat status() const;
  void require_within_device(std::uint64_t end, const char* doing) const;
  void warn_once(bool& warned, const char* lack) const;
  Awaitable<void> write_unaligned(FileOffset at, std::span<const Bytes> pieces, std::uint64_t length);
  bool aligned(FileOffset at, std::span<const Bytes> pieces) const;

  Engine& engine_;
  std::string path_;
  UniqueFd fd_;
  bool device_ = false;
  bool direct_ = false;
  bool warned_of_reserving_ = false;
  bool warned_of_punching_ = false;
  std::size_t block_size_ = 512;  ///< of the device
  std::size_t alignment_ = 1;     ///< that the descriptor demands: block_size_ with O_DIRECT, else 1
  AsyncMutex unaligned_;          ///< one read-modify-write at a time: their blocks may be the same
};

}  // namespace core
