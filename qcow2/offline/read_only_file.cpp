#include "qcow2/offline/read_only_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.h"

namespace qcow2 {

// Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
ReadOnlyFile::ReadOnlyFile(const std::string& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {
  if (!fd_.valid()) core::fail_errno(errno, path_);
  if (::fstat(fd_.get(), &facts_) != 0) core::fail_errno(errno, path_);
  if (!S_ISREG(facts_.st_mode) && !S_ISBLK(facts_.st_mode)) {
    core::fail(core::Errc::bad_argument, path_ + ": neither a file nor a block device");
  }
}

std::uint64_t ReadOnlyFile::size() const {
  const off_t end = ::lseek(fd_.get(), 0, SEEK_END);  // stat knows no size of a block device
  if (end < 0) core::fail_errno(errno, path_);
  return static_cast<std::uint64_t>(end);
}

std::uint64_t ReadOnlyFile::allocated_size() const { return static_cast<std::uint64_t>(facts_.st_blocks) * 512; }

std::vector<std::byte> ReadOnlyFile::read(HostOffset at, std::size_t length) const {
  std::vector<std::byte> bytes(length);
  std::size_t got = 0;
  while (got < length) {
    const ssize_t count = ::pread(fd_.get(), bytes.data() + got, length - got, static_cast<off_t>(at.value + got));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) core::fail_errno(errno, path_);
    if (count == 0) break;
    got += static_cast<std::size_t>(count);
  }
  bytes.resize(got);
  return bytes;
}

std::vector<std::byte> ReadOnlyFile::read_padded(HostOffset at, std::size_t length) const {
  std::vector<std::byte> bytes = read(at, length);
  bytes.resize(length);
  return bytes;
}

}  // namespace qcow2
