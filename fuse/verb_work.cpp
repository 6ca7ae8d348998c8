#include "fuse/verb_work.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <thread>

namespace fuse {

void run_to_end(core::ThreadedEngine& engine, core::Awaitable<void> work) {
  std::exception_ptr failure;
  auto keep_failure = [&failure](std::exception_ptr error) { failure = error; };
  boost::asio::co_spawn(engine.executor(), std::move(work), keep_failure);
  engine.run();
  if (failure) std::rethrow_exception(failure);
}

std::size_t processors() { return std::max(1u, std::thread::hardware_concurrency()); }

void fail_by_name(const std::string& name, const core::Error& error) {
  const std::string sentence = core::describe(error);
  core::fail(error.code(), sentence.starts_with(name + ":") ? sentence : name + ": " + sentence);
}

}  // namespace fuse
