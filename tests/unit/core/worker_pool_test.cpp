// Every thread of a pool, and each of them once.
#include "core/worker_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "core/engine.h"

namespace {

// The threads that did it, and how often it was done.
template <class Pool>
std::pair<std::set<std::thread::id>, int> visit(Pool& pool) {
  std::mutex alone;
  std::pair<std::set<std::thread::id>, int> visited;
  pool.on_each_thread([&] {
    const std::lock_guard<std::mutex> lock(alone);
    visited.first.insert(std::this_thread::get_id());
    ++visited.second;
  });
  return visited;
}

TEST(ThreadPool, DoesItOnceInEachThread) {
  core::ThreadPool pool(4);
  for (const std::size_t threads : {4, 7, 2, 1, 5}) {
    pool.resize(threads);
    for (int round = 0; round < 50; ++round) {
      const auto [ids, times] = visit(pool);
      ASSERT_EQ(ids.size(), threads);
      ASSERT_EQ(times, static_cast<int>(threads));
    }
  }
}

TEST(ThreadPool, WaitsForOneThatIsBusy) {
  core::ThreadPool pool(2);
  std::promise<void> begun;
  bool ended = false;
  pool.submit(core::UniqueFunction([&] {
    begun.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ended = true;
  }));
  begun.get_future().wait();
  EXPECT_EQ(visit(pool).first.size(), 2U);
  EXPECT_TRUE(ended);
}

TEST(ThreadedEngine, DoesItOnTheStrandToo) {
  core::ThreadedEngine engine(3);
  const auto [ids, times] = visit(engine);
  EXPECT_TRUE(ids.contains(std::this_thread::get_id()));
  EXPECT_EQ(ids.size(), 3 + engine.io().size() + 1);
  EXPECT_EQ(times, static_cast<int>(ids.size()));
}

}  // namespace
