#include "fuse/session.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/uio.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "fuse/libfuse_messages.h"
#include "fuse/mount_obstacle.h"
#include "fuse/mount_table.h"

namespace fuse {

namespace asio = boost::asio;

namespace {

// How many requests are taken before other coroutines get their turn.
constexpr int requests_in_a_row_max = 32;

// libfuse's argument vector: each word behind a "-o", its commas and backslashes escaped.
class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& words) {
    add("qcowfs");
    for (const std::string& word : words) {
      std::string escaped;
      for (const char letter : word) {
        if (letter == ',' || letter == '\\') escaped += '\\';
        escaped += letter;
      }
      add("-o" + escaped);
    }
  }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;
  ~Arguments() { fuse_opt_free_args(&args_); }

  fuse_args* get() { return &args_; }

 private:
  void add(const std::string& text) {
    if (fuse_opt_add_arg(&args_, text.c_str()) != 0) throw std::bad_alloc();
  }
  fuse_args args_ = {0, nullptr, 0};
};

}  // namespace

Session::Session(core::Engine& engine, Operations& operations, ReceiveBuffer& received, PrivilegedHelper& helper,
                 const std::vector<std::string>& words)
    : engine_(engine), operations_(operations), received_(received), helper_(helper), device_(engine.executor()) {
  LibfuseMessages said;
  Arguments arguments(words);
  const fuse_lowlevel_ops& table = Operations::table();
  session_.reset(fuse_session_new(arguments.get(), &table, sizeof(table), &operations_));
  if (session_ == nullptr)
    core::fail(core::Errc::bad_argument, "libfuse refuses the mount options: " + said.last_line());
}

Session::~Session() {
  CHECK(!receiving_);
  device_.close();
  if (mounted_) disconnect();
}

// Gives the device back and frees libfuse's side without letting libfuse unmount: it unmounts whatever it
// finds at the path. On a device that is in error it does not, and a pipe that nobody reads is one.
void Session::disconnect() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  ::close(ends[0]);
  ::dup3(ends[1], fuse_session_fd(session_.get()), O_CLOEXEC);
  ::close(ends[1]);
  fuse_session_unmount(session_.get());
  if (mount_is_ours_) helper_.detach();
}

void Session::mount(const std::string& mountpoint, std::vector<std::string> shown) {
  LibfuseMessages said;
  if (fuse_session_mount(session_.get(), mountpoint.c_str()) != 0) {
    core::fail(core::Errc::bad_argument,
               mountpoint + ": cannot mount here: " + explain_mount_failure(said.last_line()));
  }
  mounted_ = mount_is_ours_ = true;
  mountpoint_ = mountpoint;
  if (const std::optional<MountEntry> entry = find_mount(mountpoint)) device_number_ = entry->device;
  helper_.keep_mount({mountpoint, device_number_, std::move(shown)});
  const int descriptor = fuse_session_fd(session_.get());
  const int flags = ::fcntl(descriptor, F_GETFL);
  const int own = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0 || own < 0) {
    core::fail_errno(errno, mountpoint + ": cannot prepare the FUSE device");
  }
  device_.assign(own);
  fuse_custom_io io{};
  io.writev = write_reply;
  io.read = [](int device, void* buffer, std::size_t length, void*) { return ::read(device, buffer, length); };
  if (fuse_session_custom_io(session_.get(), &io, descriptor) != 0) throw std::bad_alloc();
}

// On its way out: what libfuse cannot say itself.
ssize_t Session::write_reply(int device, iovec* pieces, int count, void* operations) {
  static_cast<Operations*>(operations)->amend_greeting(pieces, count);
  return ::writev(device, pieces, count);
}

void Session::start() {
  CHECK(mounted_ && !receiving_);
  receiving_ = true;
  asio::co_spawn(engine_.executor(), receive(), core::Supervised{"receiving requests"});
}

core::Awaitable<void> Session::live() {
  while (receiving_ && !operations_.initialised()) co_await changed_.wait();
  if (!operations_.initialised()) {
    core::fail(core::Errc::bad_argument, mountpoint_ + ": the mount ended before it began");
  }
}

core::Awaitable<void> Session::ended() {
  while (receiving_) co_await changed_.wait();
}

void Session::end() {
  ending_ = true;
  fuse_session_exit(session_.get());
  device_.cancel();
}

core::Awaitable<void> Session::receive() {
  while (process_waiting_requests()) {
    changed_.wake_all();
    core::ErrorCode cancelled;
    co_await device_.async_wait(asio::posix::descriptor_base::wait_read,
                                asio::redirect_error(asio::use_awaitable, cancelled));
  }
  receiving_ = false;
  changed_.wake_all();
}

bool Session::process_waiting_requests() {
  for (int count = 0; count < requests_in_a_row_max; ++count) {
    fuse_buf& buffer = received_.prepare();
    const int got = fuse_session_receive_buf(session_.get(), &buffer);
    if (got == -EINTR) continue;
    if (got == -EAGAIN) break;
    if (got < 0) spdlog::error("{}: reading from the FUSE device: {}", mountpoint_, std::strerror(-got));
    if (got == 0 && !ending_) disown_mount();  // the kernel has no such mount any more
    if (got <= 0) return false;
    fuse_session_process_buf(session_.get(), &buffer);
  }
  return fuse_session_exited(session_.get()) == 0;
}

}  // namespace fuse
