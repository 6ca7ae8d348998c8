#include "fuse/requests.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "fuse/errno_map.h"

namespace fuse {

Requests::~Requests() { CHECK(running_ == 0); }

void Requests::start(RequestKind kind, std::unique_ptr<Reply> reply, core::Awaitable<void> step) {
  auto served = serve(kind, Statistics::Clock::now(), std::move(reply), std::move(step));
  ++running_;
  boost::asio::co_spawn(engine_.executor(), std::move(served), core::Supervised{name_of(kind)});
}

core::Awaitable<void> Requests::finished() {
  while (running_ != 0) co_await idle_.wait();
}

core::Awaitable<void> Requests::serve(RequestKind kind, Statistics::Clock::time_point came,
                                      std::unique_ptr<Reply> reply, core::Awaitable<void> step) {
  Statistics::Requests& statistics = statistics_.of(kind);
  try {
    co_await std::move(step);
    CHECK(reply->answered());
  } catch (const std::exception& error) {
    ++statistics.errors;
    log_failure(name_of(kind), error);
    if (!reply->answered()) reply->error(to_errno(error));
  }
  reply.reset();
  statistics.latency.add(Statistics::Clock::now() - came);
  if (--running_ == 0) idle_.wake_all();
}

// A program that goes on after an error makes the same one by the thousand: the first tells all.
void Requests::log_failure(std::string_view name, const std::exception& error) {
  std::string line = std::string(name) + ": " + core::describe(error);
  if (line == last_logged_) return;
  spdlog::error("{}", line);
  last_logged_ = std::move(line);
}

}  // namespace fuse
