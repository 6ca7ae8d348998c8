#include "qcow2/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/error.h"

namespace qcow2 {
namespace {

using core::fail_errno;

constexpr mode_t created_mode = 0666;  // less the umask

}  // namespace

NewFile::NewFile(const std::string& path, const std::string& name)
    : path_(path),
      name_(name),
      fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, created_mode)) {
  if (fd_.valid()) return;
  if (errno == EEXIST) core::fail(core::Errc::bad_argument, name_ + ": already exists; remove it first");
  fail_errno(errno, name_ + ": cannot be created");
}

NewFile::~NewFile() {
  if (!kept_) ::unlink(path_.c_str());
}

void NewFile::stretch(std::uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) fail_errno(errno, name_ + ": cannot be written");
}

bool NewFile::reserve(HostExtent extent) {
  while (::fallocate(fd_.get(), 0, static_cast<off_t>(extent.at.value), static_cast<off_t>(extent.length)) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS) return false;
    if (errno != EINTR) fail_errno(errno, name_ + ": its space cannot be set aside");
  }
  return true;
}

void NewFile::write(HostOffset at, core::Bytes source) {
  while (!source.empty()) {
    const ssize_t written = ::pwrite(fd_.get(), source.data(), source.size(), static_cast<off_t>(at.value));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_errno(errno, name_ + ": cannot be written");
    source = source.subspan(static_cast<std::size_t>(written));
    at = at + static_cast<std::uint64_t>(written);
  }
}

void NewFile::sync() {
  if (::fsync(fd_.get()) != 0) fail_errno(errno, name_ + ": cannot be made durable");
  sync_name();
}

// A new file's name survives a power cut only with its directory. One that may be written but not read
// cannot be synced, and some file systems have no need of it: neither is a reason to fail.
void NewFile::sync_name() {
  const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
  const core::UniqueFd directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid() || ::fsync(directory.get()) == 0) return;
  if (errno != EINVAL && errno != EROFS) fail_errno(errno, name_ + ": its directory cannot be made durable");
}

}  // namespace qcow2
