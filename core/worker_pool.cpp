#include "core/worker_pool.h"

#include <barrier>
#include <memory>

namespace core {
namespace {

struct Leave {};  // thrown in a thread that is no longer wanted

void work(boost::asio::io_context& jobs) {
  try {
    jobs.run();
  } catch (const Leave&) {
  }
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads) {
  try {
    resize(threads);
  } catch (...) {
    finish();
    throw;
  }
}

ThreadPool::~ThreadPool() { finish(); }

void ThreadPool::resize(std::size_t threads) {
  for (; size_ < threads; ++size_) threads_.emplace_back([this] { work(context_); });
  for (; size_ > threads; --size_) boost::asio::post(context_, [] { throw Leave(); });
}

void ThreadPool::on_each_thread(const std::function<void()>& job) {
  // Who has done it waits for the others, and so takes no second one. Shared: the last to leave frees it.
  const auto everybody = std::make_shared<std::barrier<>>(static_cast<std::ptrdiff_t>(size_ + 1));
  for (std::size_t thread = 0; thread < size_; ++thread) {
    boost::asio::post(context_, [everybody, &job] {
      job();
      everybody->arrive_and_wait();
    });
  }
  everybody->arrive_and_wait();
}

void ThreadPool::finish() {
  open_.reset();
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace core
