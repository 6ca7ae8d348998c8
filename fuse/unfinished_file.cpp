#include "fuse/unfinished_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/error.h"
#include "core/unique_fd.h"

namespace fuse {
namespace {

constexpr mode_t created_mode = 0666;  // less the umask
constexpr int deadly_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// What a signal handler can reach: no memory of ours that moves.
char doomed_path[PATH_MAX];
std::atomic<bool> doomed = false;
static_assert(std::atomic<bool>::is_always_lock_free, "or a signal handler could not use it");

extern "C" void remove_and_die(int signal) {
  if (doomed) ::unlink(doomed_path);
  ::raise(signal);  // pending until we return; by SA_RESETHAND it then does what it does by default
}

void doom(const std::string& path) {
  std::strncpy(doomed_path, path.c_str(), sizeof(doomed_path) - 1);
  doomed = true;
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error like others
  for (const int signal : deadly_signals) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;  // nohup(1) asks for that
    action = {};
    action.sa_handler = remove_and_die;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigaction(signal, &action, nullptr);
  }
}

[[noreturn]] void refuse_existing(const std::string& path) {
  core::fail(core::Errc::bad_argument, path + ": already exists; remove it first");
}

std::string name_beside(const std::string& path) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "%08x", static_cast<unsigned>(std::random_device()()));
  return path + ".part-" + digits;
}

// Where the file system cannot rename without overwriting, a second name that cannot overwrite either comes first.
int rename_to_new_name(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  ::unlink(from.c_str());
  return 0;
}

}  // namespace

UnfinishedFile::UnfinishedFile(std::string path, Existing existing)
    : path_(std::move(path)), existing_(existing), temporary_(name_beside(path_)) {
  struct stat facts {};
  const int error = ::lstat(path_.c_str(), &facts) == 0 ? EEXIST : errno;
  if (error == EEXIST && existing == Existing::refused) refuse_existing(path_);
  if ((error != ENOENT && error != EEXIST) || temporary_.size() >= sizeof(doomed_path)) {
    core::fail_errno(error != ENOENT ? error : ENAMETOOLONG, path_ + ": cannot be created");
  }
  doom(temporary_);
}

UnfinishedFile::~UnfinishedFile() {
  if (doomed) ::unlink(temporary_.c_str());
  doomed = false;
}

void UnfinishedFile::create() const {
  const core::UniqueFd fd(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, created_mode));
  if (!fd.valid()) core::fail_errno(errno, path_ + ": cannot be created");
}

bool UnfinishedFile::publish() {
  sync();
  const int error = rename_to_new_name(temporary_, path_);
  if (error == EEXIST && existing_ == Existing::kept) return false;
  if (error == EEXIST) refuse_existing(path_);
  if (error != 0) core::fail_errno(error, path_ + ": cannot be given its name");
  doomed = false;
  sync_folder();
  return true;
}

void UnfinishedFile::sync() const {
  const core::UniqueFd fd(::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid() || ::fsync(fd.get()) != 0) core::fail_errno(errno, path_ + ": cannot be made durable");
}

// A folder that may be written but not read cannot be synced, and some file systems have no need of it: neither is a
// reason to fail.
void UnfinishedFile::sync_folder() const {
  const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
  const core::UniqueFd folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) == 0) return;
  if (errno != EINVAL && errno != EROFS) core::fail_errno(errno, path_ + ": its folder cannot be made durable");
}

}  // namespace fuse
