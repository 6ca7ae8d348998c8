#include "core/engine.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <set>

namespace core {

namespace asio = boost::asio;

struct ThreadedEngine::Sleepers {
  std::set<asio::steady_timer*> timers;
};

constexpr std::size_t io_threads = 4;  // operations on the file at the same time

ThreadedEngine::ThreadedEngine(std::size_t workers)
    : sleepers_(std::make_unique<Sleepers>()), pool_(workers), io_(io_threads) {}

ThreadedEngine::~ThreadedEngine() = default;

void ThreadedEngine::on_each_thread(const std::function<void()>& job) {
  pool_.on_each_thread(job);
  io_.on_each_thread(job);
  job();
}

asio::awaitable<void> ThreadedEngine::sleep_for(std::chrono::milliseconds duration) {
  asio::steady_timer timer(context_, duration);
  sleepers_->timers.insert(&timer);
  boost::system::error_code woken;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  sleepers_->timers.erase(&timer);
}

void ThreadedEngine::wake_sleepers() {
  for (asio::steady_timer* timer : sleepers_->timers) timer->cancel();
}

}  // namespace core
