#include "fuse/closing_progress.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

namespace fuse {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds interval(200);

}  // namespace

ClosingProgress::ClosingProgress(core::Engine& engine, const core::GuestDisk& disk, Control& control)
    : engine_(engine), disk_(disk), control_(control), timer_(engine.executor()) {}

void ClosingProgress::start() {
  running_ = true;
  asio::co_spawn(engine_.executor(), tell(), core::Supervised{"telling how much is left"});
}

core::Awaitable<void> ClosingProgress::stop() {
  stopping_ = true;
  timer_.cancel();
  while (running_) co_await stopped_.wait();
}

core::Awaitable<void> ClosingProgress::tell() {
  while (!stopping_) {
    control_.left(disk_.status().dirty_bytes);
    timer_.expires_after(interval);
    core::ErrorCode cancelled;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
  running_ = false;
  stopped_.wake_all();
}

}  // namespace fuse
