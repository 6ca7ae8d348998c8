// The one door off the engine: processor-bound work and blocking system calls leave by it and come home.
#pragma once

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <functional>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/unique_function.h"

namespace core {

/// Runs what it is given, sometime, anywhere. A test may run it in an order of its choosing.
class WorkerPool {
 public:
  virtual ~WorkerPool() = default;
  virtual void submit(UniqueFunction job) = 0;
  virtual std::size_t size() const = 0;  ///< jobs that can run at the same time
  /// A pool without threads ignores it.
  virtual void resize(std::size_t /*threads*/) {}
};

/// Real threads. The destructor waits for the jobs that were submitted.
/// Errors     The constructor and resize() throw std::system_error where no thread can be had; those that exist stay.
/// Threads    submit() and resize() are called by one at a time: on the engine.
class ThreadPool final : public WorkerPool {
 public:
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool() override;
  void submit(UniqueFunction job) override { boost::asio::post(context_, std::move(job)); }
  std::size_t size() const override { return size_; }
  void resize(std::size_t threads) override;
  /// Runs `job`, which must not throw, once in each thread, after what that was doing. Returns when all have done it.
  void on_each_thread(const std::function<void()>& job);

 private:
  void finish();

  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> open_{context_.get_executor()};
  std::size_t size_ = 0;
  std::vector<std::thread> threads_;  ///< those too that have left
};

/// Evaluates job() on the pool and resumes on the caller's executor with its value or its exception. `job` must own,
/// or be promised until then, all that it touches. Name the job on the line above the co_await (g++ 12 destroys a
/// capturing temporary twice).
template <class Job>
boost::asio::awaitable<std::invoke_result_t<Job&>> run(WorkerPool& pool, Job job) {
  using Value = std::invoke_result_t<Job&>;
  using Slot = std::conditional_t<std::is_void_v<Value>, char, Value>;
  std::optional<Slot> value;
  std::exception_ptr error;

  auto start = [&](auto handler) {
    auto home = boost::asio::get_associated_executor(handler);
    auto keep_running = boost::asio::prefer(home, boost::asio::execution::outstanding_work.tracked);
    pool.submit([&job, &value, &error, handler = std::move(handler), home = std::move(keep_running)]() mutable {
      try {
        if constexpr (std::is_void_v<Value>) {
          job();
          value.emplace();
        } else {
          value.emplace(job());
        }
      } catch (...) {
        error = std::current_exception();
      }
      boost::asio::post(home, std::move(handler));
    });
  };
  co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(start, boost::asio::use_awaitable);
  if (error) std::rethrow_exception(error);
  if constexpr (!std::is_void_v<Value>) co_return std::move(*value);
}

}  // namespace core
