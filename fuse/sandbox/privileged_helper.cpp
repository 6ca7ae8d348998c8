#include "fuse/sandbox/privileged_helper.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace fuse {
namespace {

// A request is one of these, and behind it words that each end with a zero byte: two paths at most.
enum Errand : char {
  keep_file_errand = 'f',
  keep_mount_errand = 'm',
  keep_shown_errand = 'n',
  seal_errand = 's',
  remove_file_errand = 'r',
  unmount_when_idle_errand = 'u',
  store_and_unmount_errand = 'U',
  detach_errand = 'd',
};

constexpr std::size_t request_bytes_max = 1 << 16;
constexpr int socket_descriptor = STDERR_FILENO + 1;

struct Answer {
  OwnUnmount::Outcome outcome;
  bool was_busy;
  int store_error;
  std::array<char, 256> reason;  ///< ends with a zero byte
};
static_assert(std::is_trivially_copyable_v<Answer>);

// A signal is no answer.
template <typename Call>
ssize_t unless_interrupted(Call call) {
  ssize_t result = 0;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

Answer to_answer(const OwnUnmount& result) {
  Answer answer{result.outcome, result.was_busy, result.store_error, {}};
  result.reason.copy(answer.reason.data(), answer.reason.size() - 1);
  return answer;
}

OwnUnmount from_answer(const Answer& answer) {
  return {answer.outcome, answer.was_busy, answer.store_error, answer.reason.data()};
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t end = text.find('\0'); end != std::string_view::npos; end = text.find('\0')) {
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return words;
}

// The helper's side.
class Errands {
 public:
  OwnUnmount run(std::string_view request) {
    switch (request.front()) {
      case keep_file_errand:
      case keep_mount_errand:
      case keep_shown_errand: return keep(request.front(), words_of(request.substr(1)));
      case seal_errand: sealed_ = true; return {};
      case remove_file_errand:
        if (!file_.empty()) ::unlink(file_.c_str());
        return {};
      case unmount_when_idle_errand: return unmount_when_idle(mount_);
      case store_and_unmount_errand: return store_and_unmount(mount_);
      case detach_errand: return detach(mount_);
      default: return {.outcome = OwnUnmount::failed, .reason = "no such request"};
    }
  }

 private:
  OwnUnmount keep(char errand, const std::vector<std::string>& words) {
    if (sealed_) return {.outcome = OwnUnmount::failed, .reason = "it is too late for that"};
    switch (errand) {
      case keep_file_errand: file_ = words.at(0); break;
      case keep_mount_errand: mount_ = {words.at(0), words.at(1), {}}; break;
      default: mount_.files.push_back(words.at(0));
    }
    return {};
  }

  bool sealed_ = false;
  std::string file_;
  OwnMount mount_;
};

// Nothing of the daemon's is held on to: neither its pipes, whose ends others wait for, nor its locks. Who ends the
// daemon with its whole process group must not take away what it needs to end well.
void leave_daemon(int socket) {
  ::prctl(PR_SET_NAME, "qcowfs-helper", 0, 0, 0);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) std::signal(signal, SIG_IGN);
  ::setsid();
  if (::chdir("/") != 0) ::_exit(1);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
  if (socket != socket_descriptor && ::dup3(socket, socket_descriptor, O_CLOEXEC) < 0) ::_exit(1);
  ::close_range(socket_descriptor + 1, ~0U, 0);
}

void run_errands() {
  Errands errands;
  std::string request(request_bytes_max, '\0');
  for (;;) {
    const ssize_t length =
        unless_interrupted([&] { return ::recv(socket_descriptor, request.data(), request.size(), 0); });
    if (length <= 0) return;  // the daemon has ended
    const Answer answer = to_answer(errands.run(std::string_view(request).substr(0, static_cast<std::size_t>(length))));
    if (::send(socket_descriptor, &answer, sizeof(answer), MSG_NOSIGNAL) < 0) return;
  }
}

// Nothing of the daemon's is to be taken down, nor its exceptions to be caught by it.
[[noreturn]] void be_the_helper(int socket) {
  try {
    leave_daemon(socket);
    run_errands();
  } catch (const std::exception&) {
    ::_exit(1);
  }
  ::_exit(0);
}

std::string request_of(Errand errand, const std::vector<std::string>& words = {}) {
  std::string request(1, errand);
  for (const std::string& word : words) request += word + '\0';
  return request;
}

}  // namespace

PrivilegedHelper::PrivilegedHelper() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) core::fail_errno(errno, "helper process");
  socket_.reset(ends[0]);
  const core::UniqueFd other(ends[1]);
  process_ = ::fork();
  if (process_ < 0) core::fail_errno(errno, "helper process");
  if (process_ == 0) {
    socket_.reset();
    be_the_helper(other.get());
  }
}

PrivilegedHelper::~PrivilegedHelper() {
  socket_.reset();
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void PrivilegedHelper::keep_file(const std::string& path) { tell(request_of(keep_file_errand, {path})); }

void PrivilegedHelper::keep_mount(const OwnMount& mount) {
  tell(request_of(keep_mount_errand, {mount.mountpoint, mount.device}));
  for (const std::string& file : mount.files) tell(request_of(keep_shown_errand, {file}));
}

void PrivilegedHelper::seal() { tell(request_of(seal_errand)); }

void PrivilegedHelper::remove_file() { ask(request_of(remove_file_errand)); }
OwnUnmount PrivilegedHelper::unmount_when_idle() { return ask(request_of(unmount_when_idle_errand)); }
OwnUnmount PrivilegedHelper::store_and_unmount() { return ask(request_of(store_and_unmount_errand)); }
OwnUnmount PrivilegedHelper::detach() { return ask(request_of(detach_errand)); }

void PrivilegedHelper::tell(const std::string& request) {
  const OwnUnmount result = ask(request);
  if (result.outcome != OwnUnmount::done) core::fail_errno(EIO, "helper process: " + result.reason);
}

OwnUnmount PrivilegedHelper::ask(const std::string& request) {
  const std::lock_guard<std::mutex> alone(asking_);
  if (request.size() > request_bytes_max) return {.outcome = OwnUnmount::failed, .reason = std::strerror(E2BIG)};
  Answer answer{};
  ssize_t got = unless_interrupted([&] { return ::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL); });
  if (got >= 0) got = unless_interrupted([&] { return ::recv(socket_.get(), &answer, sizeof(answer), 0); });
  if (got == static_cast<ssize_t>(sizeof(answer))) return from_answer(answer);
  return {.outcome = OwnUnmount::failed, .reason = "the helper process is gone"};
}

}  // namespace fuse
