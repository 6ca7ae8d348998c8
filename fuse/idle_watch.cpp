#include "fuse/idle_watch.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace fuse {

namespace asio = boost::asio;

IdleWatch::IdleWatch(core::Engine& engine, Session& session, PrivilegedHelper& helper, const MountPlan& plan,
                     const Activity& activity)
    : engine_(engine),
      session_(session),
      helper_(helper),
      plan_(plan),
      activity_(activity),
      timer_(engine.executor()) {}

void IdleWatch::start() {
  if (!plan_.idle_seconds) return;
  running_ = true;
  asio::co_spawn(engine_.executor(), watch(), core::Supervised{"waiting for idleness"});
}

core::Awaitable<void> IdleWatch::stop() {
  stopping_ = true;
  timer_.cancel();
  while (running_) co_await stopped_.wait();
}

core::Awaitable<void> IdleWatch::watch() {
  const std::chrono::seconds limit(*plan_.idle_seconds);
  auto wait = std::chrono::duration_cast<Activity::Clock::duration>(limit);
  while (!stopping_) {
    timer_.expires_after(wait);
    core::ErrorCode cancelled;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    if (stopping_) break;
    const Activity::Clock::duration idle = activity_.idle();
    wait = limit - idle;
    if (wait > Activity::Clock::duration::zero()) continue;
    const bool gone = co_await try_to_unmount();
    if (gone) break;
    wait = limit;
  }
  running_ = false;
  stopped_.wake_all();
}

core::Awaitable<bool> IdleWatch::try_to_unmount() {
  // A thread of its own: what it asks of the file system may need every thread of the engine's pool.
  core::ThreadPool thread(1);
  auto job = [this] { return helper_.unmount_when_idle(); };
  const OwnUnmount result = co_await core::run(thread, job);
  if (result.outcome == OwnUnmount::done) {
    spdlog::info("{}: nobody used it for {} s: unmounted", plan_.mountpoint, *plan_.idle_seconds);
    session_.disown_mount();
  }
  if (result.outcome == OwnUnmount::failed) spdlog::error("{}: cannot unmount: {}", plan_.mountpoint, result.reason);
  co_return result.outcome == OwnUnmount::done;
}

}  // namespace fuse
