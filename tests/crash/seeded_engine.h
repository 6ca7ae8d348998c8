// An engine whose whole history follows from one number.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <set>
#include <vector>

#include "core/async.h"
#include "core/engine.h"
#include "tests/crash/random.h"

namespace crash {

/// Claim      The same seed gives the same history; trace() tells two histories apart.
/// Method     Handlers of the strand run in the order they were posted. Jobs of the pool, steps of devices and timers
///            are performed in an order drawn from the seed, sometimes before handlers that are ready. The clock moves
///            only here.
/// Threads    The caller's own. Nothing runs but inside step().
class SeededEngine final : public core::Engine {
 public:
  explicit SeededEngine(std::uint64_t seed);

  boost::asio::any_io_executor executor() override { return context_.get_executor(); }
  core::WorkerPool& pool() override { return pool_; }
  /// Where a device performs its work: any number at once, in any order.
  core::WorkerPool& io() override { return io_; }
  std::chrono::steady_clock::time_point now() const override { return now_; }
  boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) override;
  void wake_sleepers() override;

  Random& random() { return random_; }

  /// One thing happens. False where nothing can happen any more, or nothing but the clock has moved for long.
  bool step();
  std::uint64_t trace() const { return trace_; }
  void note(std::uint64_t fact) { trace_ = mix(trace_, fact); }

 private:
  struct Event {
    std::uint64_t number = 0;
    std::uint64_t due = 0;  ///< not performed before so many steps, if anything else can happen
    core::UniqueFunction work;
  };
  class Jobs final : public core::WorkerPool {
   public:
    Jobs(SeededEngine& engine, std::size_t size) : engine_(engine), size_(size) {}
    void submit(core::UniqueFunction job) override;
    std::size_t size() const override { return size_; }

   private:
    SeededEngine& engine_;
    std::size_t size_;
  };

  void perform(std::size_t index);
  void advance();

  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{context_.get_executor()};
  Random random_;
  unsigned impatience_;  // percent of the steps in which an event overtakes ready handlers
  unsigned laziness_;    // percent of the events that come late, half of them very late
  std::chrono::steady_clock::time_point now_{std::chrono::hours(1)};
  std::uint64_t wakings_ = 0;
  core::WaitList sleepers_;
  std::multiset<std::chrono::steady_clock::time_point> deadlines_;
  std::vector<Event> events_;
  std::uint64_t next_event_ = 0;
  std::uint64_t steps_ = 0;  // in which an event was performed or the clock moved
  std::uint64_t idle_steps_ = 0;
  std::uint64_t trace_ = 0;
  Jobs pool_;
  Jobs io_;
};

}  // namespace crash
