#include "fuse/control.h"

#include <linux/sockios.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/async.h"
#include "core/error.h"
#include "fuse/control_address.h"

namespace fuse {

namespace asio = boost::asio;

namespace {

constexpr int waiting_max = 16;
constexpr int bind_attempts_max = 20;
constexpr std::chrono::milliseconds bind_pause{100};

// The mount's owner and root may know how it ends; so they may wait for it, which keeps a descriptor busy.
bool may_listen(int peer) {
  ucred who{};
  socklen_t length = sizeof(who);
  if (::getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return false;
  return who.uid == 0 || who.uid == ::geteuid();
}

bool has_hung_up(int peer) {
  char byte = 0;
  return ::recv(peer, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace

Control::Control(core::Engine& engine) : engine_(engine), acceptor_(engine.executor()) {}

Control::~Control() = default;

core::Awaitable<void> Control::listen(const std::string& device) {
  core::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const ControlAddress address(device);
  for (int attempt = 1;; ++attempt) {
    if (::bind(socket.get(), address.get(), address.size()) == 0) break;
    if (errno != EADDRINUSE || attempt == bind_attempts_max) {
      spdlog::warn("qcowfs umount will not hear how it ends: {}", std::strerror(errno));
      co_return;
    }
    co_await engine_.sleep_for(bind_pause);
  }
  if (::listen(socket.get(), waiting_max) != 0) co_return;
  acceptor_.assign(socket.release());
  asio::co_spawn(engine_.executor(), accept_until_closed(), core::Supervised{"accepting listeners"});
}

core::Awaitable<void> Control::accept_until_closed() {
  for (;;) {
    core::ErrorCode error;
    co_await acceptor_.async_wait(asio::posix::descriptor_base::wait_read,
                                  asio::redirect_error(asio::use_awaitable, error));
    if (error || !acceptor_.is_open()) co_return;
    accept_waiting();
  }
}

void Control::accept_waiting() {
  std::erase_if(listeners_, [](const core::UniqueFd& listener) { return has_hung_up(listener.get()); });
  for (;;) {
    core::UniqueFd peer(::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!peer.valid()) return;
    if (may_listen(peer.get())) listeners_.push_back(std::move(peer));
  }
}

void Control::ending() {
  if (!acceptor_.is_open()) return;
  accept_waiting();  // whoever asked before unmounting is in the queue by now
  acceptor_.close();
  tell(control_words::ending);
}

// Who has not read the last such line gets no other: the room is for the result.
void Control::left(std::uint64_t bytes) {
  const std::string text = control_words::left + std::to_string(bytes) + "\n";
  for (const core::UniqueFd& listener : listeners_) {
    int unread = 0;
    if (::ioctl(listener.get(), SIOCOUTQ, &unread) != 0 || unread != 0) continue;
    [[maybe_unused]] const ssize_t sent = ::send(listener.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
}

void Control::finish(const std::string& failure) {
  tell(failure.empty() ? control_words::stored : control_words::failed + failure);
}

void Control::tell(const std::string& line) {
  const std::string text = line + "\n";
  for (const core::UniqueFd& listener : listeners_) {
    // A few words fit into any socket's buffer; a listener that has gone is nobody's loss.
    [[maybe_unused]] const ssize_t sent = ::send(listener.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
}

}  // namespace fuse
