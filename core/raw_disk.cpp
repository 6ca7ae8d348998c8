#include "core/raw_disk.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/alignment.h"
#include "core/error.h"

namespace core {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint32_t transfer_size = 65536;  // what a raw file is best read by, at least

[[noreturn]] void refuse() { fail(Errc::read_only, "a raw image is only read"); }

}  // namespace

RawDisk::RawDisk(Engine& engine, std::unique_ptr<DirectFile> file)
    : engine_(engine), file_(std::move(file)), size_(align_up(file_->size(), sector)) {}

std::uint32_t RawDisk::cluster_size() const { return transfer_size; }

Awaitable<void> RawDisk::read(DiskOffset at, MutableBytes target) {
  return file_->read_at(FileOffset{at.value}, target);
}

Awaitable<void> RawDisk::write(DiskOffset, SharedBytes) { refuse(); }
Awaitable<void> RawDisk::zero(DiskOffset, std::uint64_t) { refuse(); }
Awaitable<void> RawDisk::resize(std::uint64_t) { refuse(); }

Awaitable<std::uint64_t> RawDisk::next_data(DiskOffset at) { return seek(at, SEEK_DATA); }
Awaitable<std::uint64_t> RawDisk::next_hole(DiskOffset at) { return seek(at, SEEK_HOLE); }

Awaitable<std::uint64_t> RawDisk::seek(DiskOffset at, int whence) {
  if (at.value >= size_) co_return size_;
  auto job = [fd = file_->descriptor(), at, whence] {
    const off_t found = ::lseek(fd, static_cast<off_t>(at.value), whence);
    return found < 0 ? -static_cast<off_t>(errno) : found;
  };
  const off_t found = co_await run(engine_.io(), job);
  if (found >= 0) co_return std::min(static_cast<std::uint64_t>(found), size_);
  if (found == -ENXIO) co_return size_;              // nothing but a hole is left
  co_return whence == SEEK_DATA ? at.value : size_;  // a file system that knows no holes: all is data
}

}  // namespace core
