#include "tests/crash/session.h"

#include <boost/asio/co_spawn.hpp>

namespace crash {
namespace {

constexpr std::uint64_t steps_max = 20'000'000;

core::Awaitable<void> then_note(core::Awaitable<void> task, std::shared_ptr<bool> done) {
  co_await std::move(task);
  *done = true;
}

}  // namespace

bool drive(SeededEngine& engine, core::Awaitable<void> task) {
  const auto done = std::make_shared<bool>(false);
  boost::asio::co_spawn(engine.executor(), then_note(std::move(task), done), core::Supervised{"crash simulation"});
  for (std::uint64_t steps = 0; steps < steps_max && !*done; ++steps) {
    if (!engine.step()) break;
  }
  if (!*done) return false;
  while (engine.step()) {  // what the image left behind may still run
  }
  return true;
}

core::Awaitable<void> Session::use(qcow2::ImageOptions options, Habits habits, std::uint64_t seed, Outcome& outcome) {
  const std::shared_ptr<core::BlockFile> file = disk_.opened();
  std::unique_ptr<core::GuestDisk> disk;
  try {
    disk = co_await qcow2::open_image(engine_, *file, options);
  } catch (const std::exception& error) {
    outcome.failure = core::describe(error);
    co_return;
  }
  outcome.opened = true;
  Guest guest(engine_, *disk, history_, habits, seed);
  if (options.read_only) {
    co_await guest.read_all();
  } else {
    co_await guest.live();
  }
  co_await guest.close();
  outcome.wrong = guest.wrong();
  outcome.failure = guest.failure();
}

Outcome Session::finish(bool ended, Outcome outcome) const {
  if (!ended) outcome.wrong = "hangs: nothing can happen any more, and it has not ended";
  if (!disk_.misuse().empty()) outcome.wrong = disk_.misuse();
  return outcome;
}

Outcome Session::run(const qcow2::ImageOptions& options, const Habits& habits, std::uint64_t seed) {
  Outcome outcome;
  const bool ended = drive(engine_, use(options, habits, seed, outcome));
  return finish(ended, outcome);
}

Outcome Session::read_everything(qcow2::ImageOptions options) {
  options.read_only = true;
  Outcome outcome;
  const bool ended = drive(engine_, use(options, Habits{}, 0, outcome));
  return finish(ended, outcome);
}

}  // namespace crash
