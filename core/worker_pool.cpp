#include "core/worker_pool.h"

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

void ThreadPool::finish() {
  open_.reset();
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace core
