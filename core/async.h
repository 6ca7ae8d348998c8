// What coroutines of one engine wait for each other with. No locks: all of it belongs to the engine's one strand.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <deque>
#include <exception>
#include <memory>
#include <string_view>

#include "core/unique_function.h"

namespace core {

/// Coroutines waiting for something to become true. Spurious waking is allowed: wait in a loop on the condition.
class WaitList {
 public:
  WaitList() = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList();

  boost::asio::awaitable<void> wait();
  void wake_one();
  void wake_all();
  bool empty() const { return waiters_.empty(); }

 private:
  std::deque<UniqueFunction> waiters_;
};

/// Mutual exclusion across suspensions; first come, first served.
class AsyncMutex {
 public:
  /// Releases on destruction.
  class Guard {
   public:
    Guard() = default;
    explicit Guard(AsyncMutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      std::swap(mutex_, other.mutex_);
      return *this;
    }
    ~Guard() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    AsyncMutex* mutex_ = nullptr;
  };

  boost::asio::awaitable<Guard> lock();

 private:
  void unlock();
  bool held_ = false;
  WaitList waiters_;
};

/// Runs child coroutines beside each other; join() waits for all and rethrows the first failure.
/// join() must be awaited before destruction.
class TaskGroup {
 public:
  explicit TaskGroup(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  ~TaskGroup();

  void spawn(boost::asio::awaitable<void> task);
  boost::asio::awaitable<void> join();

 private:
  boost::asio::any_io_executor executor_;
  std::size_t running_ = 0;
  std::exception_ptr first_error_;
  WaitList done_;
};

/// Completion handler for coroutines that nobody awaits: an exception that escapes one is a bug, named and fatal.
struct Supervised {
  std::string_view name;  ///< must be a literal
  void operator()(std::exception_ptr error) const;
};

}  // namespace core
