#include "core/async.h"

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <cstdlib>

#include "core/check.h"
#include "core/error.h"

namespace core {

namespace asio = boost::asio;

WaitList::~WaitList() { CHECK(waiters_.empty()); }

asio::awaitable<void> WaitList::wait() {
  auto enlist = [this](auto handler) {
    waiters_.emplace_back([handler = std::move(handler)]() mutable {
      const auto home = asio::get_associated_executor(handler);
      asio::post(home, std::move(handler));
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(enlist, asio::use_awaitable);
}

void WaitList::wake_one() {
  if (waiters_.empty()) return;
  UniqueFunction waiter = std::move(waiters_.front());
  waiters_.pop_front();
  waiter();
}

void WaitList::wake_all() {
  std::deque<UniqueFunction> waiters = std::move(waiters_);
  waiters_.clear();
  for (UniqueFunction& waiter : waiters) waiter();
}

asio::awaitable<AsyncMutex::Guard> AsyncMutex::lock() {
  if (held_) {
    co_await waiters_.wait();  // unlock() hands the mutex over still held, so newcomers cannot overtake
  } else {
    held_ = true;
  }
  co_return Guard(*this);
}

void AsyncMutex::unlock() {
  if (waiters_.empty()) {
    held_ = false;
  } else {
    waiters_.wake_one();
  }
}

TaskGroup::~TaskGroup() { CHECK(running_ == 0); }

void TaskGroup::spawn(asio::awaitable<void> task) {
  ++running_;
  auto finished = [this](std::exception_ptr error) {
    if (error && !first_error_) first_error_ = error;
    if (--running_ == 0) done_.wake_all();
  };
  asio::co_spawn(executor_, std::move(task), finished);
}

asio::awaitable<void> TaskGroup::join() {
  while (running_ != 0) co_await done_.wait();
  if (first_error_) std::rethrow_exception(std::exchange(first_error_, nullptr));
}

void Supervised::operator()(std::exception_ptr error) const {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& escaped) {
    std::fprintf(stderr, "qcowfs: internal error: %.*s ended with: %s\n", static_cast<int>(name.size()), name.data(),
                 describe(escaped).c_str());
  }
  std::abort();
}

}  // namespace core
