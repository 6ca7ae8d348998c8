#include "core/direct_file.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include "core/alignment.h"
#include "core/error.h"

namespace core {
namespace {

constexpr std::size_t fallback_alignment = 4096;  // accepted by every device known to us

int open_flags(Access access) { return (access == Access::read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY; }

// For files O_EXCL means something else.
bool is_block_device(const std::string& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 && S_ISBLK(facts.st_mode);
}

std::size_t direct_alignment(int fd) {
  struct statx facts {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) == 0 && (facts.stx_mask & STATX_DIOALIGN) != 0 &&
      facts.stx_dio_offset_align != 0) {
    const std::size_t larger = std::max(facts.stx_dio_offset_align, facts.stx_dio_mem_align);
    if (is_power_of_two(larger)) return std::clamp<std::size_t>(larger, 512, memory_alignment);
  }
  return fallback_alignment;
}

void read_fully(int fd, FileOffset at, MutableBytes target) {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t got = ::pread(fd, target.data() + done, target.size() - done, static_cast<off_t>(at.value + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(errno, "reading the image at byte " + std::to_string(at.value + done));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  std::memset(target.data() + done, 0, target.size() - done);  // beyond the end of the file
}

void write_fully(int fd, FileOffset at, std::span<const Bytes> pieces) {
  std::vector<iovec> rest;
  rest.reserve(pieces.size());
  for (const Bytes piece : pieces) {
    rest.push_back({const_cast<std::byte*>(piece.data()), piece.size()});  // NOLINT: iovec has no const form
  }
  std::uint64_t offset = at.value;
  std::size_t first = 0;
  while (first < rest.size()) {
    const int count = static_cast<int>(std::min<std::size_t>(rest.size() - first, IOV_MAX));
    const ssize_t got = ::pwritev(fd, rest.data() + first, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail_errno(got < 0 ? errno : EIO, "writing the image at byte " + std::to_string(offset));
    offset += static_cast<std::uint64_t>(got);
    std::size_t written = static_cast<std::size_t>(got);
    while (first < rest.size() && written >= rest[first].iov_len) written -= rest[first++].iov_len;
    if (first < rest.size() && written != 0) {
      rest[first].iov_base = static_cast<char*>(rest[first].iov_base) + written;
      rest[first].iov_len -= written;
    }
  }
}

// False where the file system knows no such operation.
bool allocate_blocks(int fd, int mode, FileOffset at, std::uint64_t length, const char* doing) {
  while (::fallocate(fd, mode, static_cast<off_t>(at.value), static_cast<off_t>(length)) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS) return false;
    if (errno != EINTR)
      fail_errno(errno, std::string(doing) + " space of the image at byte " + std::to_string(at.value));
  }
  return true;
}

}  // namespace

DirectFile::DirectFile(Engine& engine, const std::string& path, Access access, DirectIo direct, const std::string& name)
    : engine_(engine), path_(name) {
  const int claim = access == Access::read_write && is_block_device(path) ? O_EXCL : 0;
  fd_.reset(::open(path.c_str(), open_flags(access) | O_NONBLOCK | claim));  // a FIFO must not hang the open
  if (!fd_.valid() && errno == EBUSY && claim != 0) {
    fail_errno(EBUSY, name + ": the block device is mounted, or another program has claimed it");
  }
  if (!fd_.valid()) fail_errno(errno, name + ": cannot open the image");
  const mode_t type = status().st_mode & S_IFMT;
  if (type != S_IFREG && type != S_IFBLK) {
    fail(Errc::bad_argument, name + ": the image is neither a regular file nor a block device");
  }
  device_ = type == S_IFBLK;

  if (direct != DirectIo::off) {
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    direct_ = ::fcntl(fd_.get(), F_SETFL, flags | O_DIRECT) == 0;
    if (direct_) {
      block_size_ = direct_alignment(fd_.get());
      Buffer probe(block_size_);
      if (::pread(fd_.get(), probe.data(), probe.size(), 0) < 0 && errno == EINVAL) {
        direct_ = false;
        ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT);
      }
    }
    if (!direct_ && direct == DirectIo::on) {
      fail(Errc::bad_argument, name + ": the file system refuses direct I/O; use -o direct=auto or direct=off");
    }
    if (!direct_) spdlog::warn("{}: the file system refuses direct I/O; using the page cache", name);
  }
  alignment_ = direct_ ? block_size_ : 1;
}

struct stat DirectFile::status() const {
  struct stat facts {};
  if (::fstat(fd_.get(), &facts) != 0) fail_errno(errno, path_ + ": cannot stat the image");
  return facts;
}

// stat knows no size of a block device. Where the descriptor stands matters to nobody.
std::uint64_t DirectFile::size() const {
  if (!device_) return static_cast<std::uint64_t>(status().st_size);
  const off_t end = ::lseek(fd_.get(), 0, SEEK_END);
  if (end < 0) fail_errno(errno, path_ + ": cannot learn the size of the block device");
  return static_cast<std::uint64_t>(end);
}

std::optional<std::uint64_t> DirectFile::allocated_bytes() const {
  if (device_) return std::nullopt;
  return static_cast<std::uint64_t>(status().st_blocks) * 512;
}

void DirectFile::require_within_device(std::uint64_t end, const char* doing) const {
  if (end > size()) {
    fail_errno(ENOSPC, std::string(doing) + " the image on a block device of " + std::to_string(size()) + " bytes");
  }
}

void DirectFile::warn_once(bool& warned, const char* lack) const {
  if (!std::exchange(warned, true)) spdlog::warn("{}: the file system {}", path_, lack);
}

bool DirectFile::aligned(FileOffset at, std::span<const Bytes> pieces) const {
  if (!is_aligned(at.value, alignment_)) return false;
  return std::all_of(pieces.begin(), pieces.end(), [this](Bytes piece) {
    return is_aligned(piece.size(), alignment_) &&
           is_aligned(reinterpret_cast<std::uintptr_t>(piece.data()), alignment_);
  });
}

Awaitable<void> DirectFile::read_at(FileOffset at, MutableBytes target) {
  const std::uint64_t first = align_down(at.value, alignment_);
  const std::uint64_t last = align_up(at.value + target.size(), alignment_);
  const bool straight = first == at.value && last == at.value + target.size() &&
                        is_aligned(reinterpret_cast<std::uintptr_t>(target.data()), alignment_);
  auto job = [fd = fd_.get(), at, target, first, last, straight] {
    if (straight) return read_fully(fd, at, target);
    Buffer covering(last - first);
    read_fully(fd, FileOffset{first}, covering.span());
    std::memcpy(target.data(), covering.data() + (at.value - first), target.size());
  };
  co_await run(engine_.io(), job);
}

Awaitable<void> DirectFile::write_at(FileOffset at, std::span<const Bytes> pieces) {
  const std::uint64_t length = total_size(pieces);
  if (length == 0) co_return;
  if (aligned(at, pieces)) {
    auto job = [fd = fd_.get(), at, pieces] { write_fully(fd, at, pieces); };
    co_await run(engine_.io(), job);
  } else {
    co_await write_unaligned(at, pieces, length);
  }
}

Awaitable<void> DirectFile::write_unaligned(FileOffset at, std::span<const Bytes> pieces, std::uint64_t length) {
  const AsyncMutex::Guard alone = co_await unaligned_.lock();
  auto job = [fd = fd_.get(), at, pieces, length, unit = alignment_] {
    const std::uint64_t first = align_down(at.value, unit);
    const std::uint64_t last = align_up(at.value + length, unit);
    Buffer covering(last - first);
    if (at.value != first) read_fully(fd, FileOffset{first}, covering.span().first(unit));
    if (at.value + length != last) read_fully(fd, FileOffset{last - unit}, covering.span().last(unit));
    copy_pieces(pieces, covering.data() + (at.value - first));
    const Bytes whole = covering.span();
    write_fully(fd, FileOffset{first}, std::span<const Bytes>(&whole, 1));
  };
  co_await run(engine_.io(), job);
}

Awaitable<void> DirectFile::barrier() {
  auto job = [fd = fd_.get()] {
    while (::fdatasync(fd) != 0) {
      if (errno != EINTR) fail_errno(errno, "making the image durable");
    }
  };
  co_await run(engine_.io(), job);
}

Awaitable<void> DirectFile::truncate(std::uint64_t size) {
  if (device_) {
    require_within_device(size, "lengthening");
    co_return;
  }
  auto job = [fd = fd_.get(), size] {
    while (::ftruncate(fd, static_cast<off_t>(size)) != 0) {
      if (errno != EINTR) fail_errno(errno, "changing the length of the image");
    }
  };
  co_await run(engine_.io(), job);
}

Awaitable<bool> DirectFile::reserve(FileOffset at, std::uint64_t length) {
  if (device_) {
    require_within_device(at.value + length, "reserving space of");
    co_return true;
  }
  auto job = [fd = fd_.get(), at, length] { return allocate_blocks(fd, FALLOC_FL_KEEP_SIZE, at, length, "reserving"); };
  const bool reserved = co_await run(engine_.io(), job);
  if (!reserved) warn_once(warned_of_reserving_, "sets no space aside; a full disk may be told by fsync only");
  co_return reserved;
}

Awaitable<bool> DirectFile::punch(FileOffset at, std::uint64_t length) {
  auto job = [fd = fd_.get(), at, length] {
    return allocate_blocks(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length, "giving back");
  };
  const bool punched = co_await run(engine_.io(), job);
  if (!punched) warn_once(warned_of_punching_, "takes no space back within a file; the image shrinks at its end only");
  co_return punched;
}

}  // namespace core
