#include "fuse/pid_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "core/error.h"

namespace fuse {
namespace {

constexpr mode_t readable_by_all = 0644;

// What stands there, without the newline. An id is short: more than that is no id.
std::string content_of(int file) {
  std::array<char, 32> text;
  const ssize_t length = ::pread(file, text.data(), text.size(), 0);
  std::string content(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  if (content.ends_with('\n')) content.pop_back();
  return content;
}

bool is_process_id(const std::string& text) {
  return text.size() <= 10 && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

PidFile::PidFile(const std::string& path, PrivilegedHelper& helper) : helper_(helper) {
  constexpr int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  file_.reset(::open(path.c_str(), flags, readable_by_all));
  if (!file_.valid()) core::fail_errno(errno, path + ": cannot write the process id");
  const std::string earlier = content_of(file_.get());
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    file_.reset();
    core::fail(core::Errc::bad_argument, path + ": the process id file of another daemon" +
                                             (earlier.empty() ? "" : ", process " + earlier) + "; choose another name");
  }
  if (!is_process_id(earlier)) {
    core::fail(core::Errc::bad_argument, path + ": holds something other than a process id; not overwritten");
  }
  const std::string line = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file_.get(), 0) != 0 ||
      ::pwrite(file_.get(), line.data(), line.size(), 0) != static_cast<ssize_t>(line.size())) {
    core::fail_errno(errno, path + ": cannot write the process id");
  }
  helper_.keep_file(std::filesystem::absolute(path).string());
}

// Removed while it is locked: nobody else has taken the name over by then.
PidFile::~PidFile() { helper_.remove_file(); }

}  // namespace fuse
