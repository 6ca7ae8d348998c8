// The one strand: a thread that owns all metadata, the pools it sends work to, and the clock it ages data by.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>

#include "core/worker_pool.h"

namespace core {

/// What the layers above run on. A reference to it outlives everything built on it.
/// Threads    executor() runs one handler at a time; everything but the pools' jobs happens there.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual boost::asio::any_io_executor executor() = 0;
  /// For what keeps a processor busy.
  virtual WorkerPool& pool() = 0;
  /// For system calls that wait for a device: were they in the pool, they would idle processors.
  virtual WorkerPool& io() = 0;
  virtual std::chrono::steady_clock::time_point now() const = 0;
  /// Suspends for at least `duration`, or until wake_sleepers().
  virtual boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) = 0;
  virtual void wake_sleepers() = 0;
};

/// The engine of the daemon: run() makes the calling thread the strand.
class ThreadedEngine final : public Engine {
 public:
  explicit ThreadedEngine(std::size_t workers);
  ~ThreadedEngine() override;

  boost::asio::any_io_executor executor() override { return context_.get_executor(); }
  boost::asio::io_context& context() { return context_; }
  WorkerPool& pool() override { return pool_; }
  WorkerPool& io() override { return io_; }
  std::chrono::steady_clock::time_point now() const override { return std::chrono::steady_clock::now(); }
  boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) override;
  void wake_sleepers() override;

  /// Returns when nothing is left to do.
  void run() { context_.run(); }
  /// Runs `job`, which must not throw, once in each thread there is, on the strand last. For what the kernel keeps by
  /// thread, and new threads inherit.
  /// Threads    On the strand, which it holds up until the jobs that are running have ended.
  void on_each_thread(const std::function<void()>& job);

 private:
  struct Sleepers;
  boost::asio::io_context context_{1};
  std::unique_ptr<Sleepers> sleepers_;
  ThreadPool pool_;
  ThreadPool io_;
};

}  // namespace core
