#include "tests/support/run.h"

namespace test {

boost::asio::awaitable<void> TestEngine::sleep_for(std::chrono::milliseconds duration) {
  const auto until = now_ + duration;
  const std::uint64_t wakings = wakings_;
  while (now_ < until && wakings_ == wakings) co_await sleepers_.wait();
}

void TestEngine::wake_sleepers() {
  ++wakings_;
  sleepers_.wake_all();
}

void TestEngine::settle() {
  context_.restart();
  context_.poll();
}

void TestEngine::advance(std::chrono::milliseconds duration) {
  now_ += duration;
  sleepers_.wake_all();
  settle();
}

void TestEngine::PostingPool::submit(core::UniqueFunction job) {
  auto counted = [this, job = std::move(job)]() mutable {
    ++jobs_run_;
    job();
  };
  boost::asio::post(context_, std::move(counted));
}

}  // namespace test
