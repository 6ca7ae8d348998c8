// A deterministic engine for unit tests, and how a test that is no coroutine runs one.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <exception>
#include <list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"

namespace test {

/// Everything runs on the calling thread, in the order it was posted, the pool's jobs too; the clock moves
/// only when told to. So one test is one history.
/// Ordering   Nothing runs but inside settle() and what calls it: start(), run(), advance().
/// Threads    The test's own.
class TestEngine final : public core::Engine {
 public:
  TestEngine() : pool_(context_) {}

  boost::asio::any_io_executor executor() override { return context_.get_executor(); }
  core::WorkerPool& pool() override { return pool_; }
  core::WorkerPool& io() override { return pool_; }
  std::chrono::steady_clock::time_point now() const override { return now_; }
  boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) override;
  void wake_sleepers() override;

  /// Runs until everybody waits for something that only the test can bring about.
  void settle();
  /// Moves the clock, and runs what that wakes.
  void advance(std::chrono::milliseconds duration);
  std::size_t jobs_run() const { return pool_.jobs_run(); }

 private:
  class PostingPool final : public core::WorkerPool {
   public:
    explicit PostingPool(boost::asio::io_context& context) : context_(context) {}
    void submit(core::UniqueFunction job) override;
    std::size_t size() const override { return 4; }
    std::size_t jobs_run() const { return jobs_run_; }

   private:
    boost::asio::io_context& context_;
    std::size_t jobs_run_ = 0;
  };

  boost::asio::io_context context_{1};
  std::chrono::steady_clock::time_point now_{std::chrono::hours(1)};
  std::uint64_t wakings_ = 0;  // calls of wake_sleepers()
  core::WaitList sleepers_;
  PostingPool pool_;
};

/// A coroutine under way. Copies refer to the same one.
template <class Value>
class Started {
  using Slot = std::conditional_t<std::is_void_v<Value>, char, Value>;
  struct State {
    bool done = false;
    std::exception_ptr error;
    std::optional<Slot> value;
  };

 public:
  Started(TestEngine& engine, core::Awaitable<Value> task) : engine_(&engine), state_(std::make_shared<State>()) {
    boost::asio::co_spawn(engine.executor(), keep_outcome(std::move(task), state_), core::Supervised{"test"});
    engine.settle();
  }

  bool done() const { return state_->done; }
  bool failed() const { return state_->done && state_->error != nullptr; }

  /// What the coroutine returned or threw. Throws std::logic_error where it is stuck.
  Value get() const {
    engine_->settle();
    if (!state_->done) throw std::logic_error("the coroutine waits for what never happens");
    if (state_->error) std::rethrow_exception(state_->error);
    if constexpr (!std::is_void_v<Value>) return std::move(*state_->value);
  }

 private:
  static core::Awaitable<void> keep_outcome(core::Awaitable<Value> task, std::shared_ptr<State> state) {
    try {
      if constexpr (std::is_void_v<Value>) {
        co_await std::move(task);
      } else {
        Value value = co_await std::move(task);
        state->value.emplace(std::move(value));
      }
    } catch (...) {
      state->error = std::current_exception();
    }
    state->done = true;
  }

  TestEngine* engine_;
  std::shared_ptr<State> state_;
};

/// Runs `task` as far as it goes by itself.
template <class Value>
Started<Value> start(TestEngine& engine, core::Awaitable<Value> task) {
  return Started<Value>(engine, std::move(task));
}

/// Runs `task` to its end.
template <class Value>
Value run(TestEngine& engine, core::Awaitable<Value> task) {
  return Started<Value>(engine, std::move(task)).get();
}

}  // namespace test
