#include "qcow2/offline/read_only_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"
#include "core/file_lock.h"

namespace qcow2 {

using core::fail_errno;

namespace {

constexpr std::uint64_t tables_in_holes_max = 64 << 20;  // bytes
constexpr std::uint64_t table_overlaps_max = 8;          // how many tables may be the same part of the file

}  // namespace

// Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
ReadOnlyFile::ReadOnlyFile(const std::string& path, Lock lock, const std::string& name)
    : path_(name), fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {
  if (!fd_.valid()) fail_errno(errno, path_);
  struct stat facts {};
  if (::fstat(fd_.get(), &facts) != 0) fail_errno(errno, path_);
  if (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode)) {
    core::fail(core::Errc::bad_argument, path_ + ": neither a file nor a block device");
  }
  // Before anything is learnt of the file that a writer could still change.
  if (lock == Lock::against_writers) core::lock_image(fd_.get(), core::Access::read_only, path_);
  const off_t end = ::lseek(fd_.get(), 0, SEEK_END);  // stat knows no size of a block device
  if (end < 0) fail_errno(errno, path_);
  size_ = static_cast<std::uint64_t>(end);
  allocated_size_ = S_ISBLK(facts.st_mode) ? size_ : static_cast<std::uint64_t>(facts.st_blocks) * 512;
  limit_tables();
}

ReadOnlyFile::ReadOnlyFile(core::BlockingFile& file, const std::string& name)
    : path_(name), open_file_(&file), size_(file.size()), allocated_size_(size_) {
  limit_tables();
}

void ReadOnlyFile::limit_tables() {
  tables_bytes_max_ = tables_in_holes_max + table_overlaps_max * std::min(size_, allocated_size_);
}

std::size_t ReadOnlyFile::read_some(HostOffset at, core::MutableBytes target) const {
  // Beyond the end nothing is asked of the system: an offset from an image may be none that a file can have.
  if (at.value >= size_) return 0;
  target = target.first(static_cast<std::size_t>(std::min<std::uint64_t>(target.size(), size_ - at.value)));
  if (open_file_ == nullptr) return read_descriptor(at, target);
  open_file_->read_at(at, target);
  return target.size();
}

std::size_t ReadOnlyFile::read_descriptor(HostOffset at, core::MutableBytes target) const {
  const std::size_t length = target.size();
  std::size_t got = 0;
  while (got < length) {
    const ssize_t count = ::pread(fd_.get(), target.data() + got, length - got, static_cast<off_t>(at.value + got));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno(errno, path_ + ": cannot be read");
    if (count == 0) break;
    got += static_cast<std::size_t>(count);
  }
  return got;
}

std::vector<std::byte> ReadOnlyFile::read(HostOffset at, std::size_t length) const {
  std::vector<std::byte> bytes(length);
  bytes.resize(read_some(at, bytes));
  return bytes;
}

void ReadOnlyFile::read_or_zeros(HostOffset at, core::MutableBytes target) const {
  const std::size_t got = read_some(at, target);
  std::fill(target.begin() + static_cast<std::ptrdiff_t>(got), target.end(), std::byte{0});
}

std::vector<std::byte> ReadOnlyFile::read_or_zeros(HostOffset at, std::size_t length) const {
  std::vector<std::byte> bytes(length);
  read_or_zeros(at, bytes);
  return bytes;
}

ReadOnlyFile::Run ReadOnlyFile::run_at(HostOffset at) const {
  constexpr std::uint64_t endless = ~0ull;
  if (open_file_ != nullptr) return {false, endless};
  const off_t begin = static_cast<off_t>(at.value);
  const off_t data = ::lseek(fd_.get(), begin, SEEK_DATA);
  if (data > begin) return {true, static_cast<std::uint64_t>(data - begin)};
  if (data < 0 && errno == ENXIO) return {true, endless};  // no data is left in the file
  const off_t hole = ::lseek(fd_.get(), begin, SEEK_HOLE);
  return {false, hole > begin ? static_cast<std::uint64_t>(hole - begin) : endless};
}

}  // namespace qcow2
