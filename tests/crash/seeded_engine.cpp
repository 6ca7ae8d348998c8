#include "tests/crash/seeded_engine.h"

#include <utility>

namespace crash {
namespace {

constexpr std::uint64_t idle_steps_max = 20000;  // of the clock alone: nobody is going to do anything any more
constexpr std::uint64_t timer_share = 48;        // one event of so many is a timer's

constexpr int lazy_draws = 6;
constexpr int laziest_draws = 60;

}  // namespace

SeededEngine::SeededEngine(std::uint64_t seed)
    : random_(seed),
      impatience_(static_cast<unsigned>(random_.below(4) * 15)),
      laziness_(random_.chance(15) ? 50 : 12),
      pool_(*this, random_.between(1, 4)),
      devices_(*this, 1) {}

boost::asio::awaitable<void> SeededEngine::sleep_for(std::chrono::milliseconds duration) {
  const auto until = now_ + duration;
  const std::uint64_t wakings = wakings_;
  const auto deadline = deadlines_.insert(until);
  while (now_ < until && wakings_ == wakings) co_await sleepers_.wait();
  deadlines_.erase(deadline);
}

void SeededEngine::wake_sleepers() {
  ++wakings_;
  sleepers_.wake_all();
}

void SeededEngine::Jobs::submit(core::UniqueFunction job) {
  int redraws = 0;
  if (engine_.random_.chance(engine_.laziness_)) redraws = engine_.random_.chance(50) ? lazy_draws : laziest_draws;
  engine_.events_.push_back({engine_.next_event_++, redraws, std::move(job)});
}

bool SeededEngine::step() {
  const bool overtake = !events_.empty() && random_.chance(impatience_);
  if (!overtake && context_.poll_one() != 0) {
    if (events_.empty() && ++idle_steps_ > idle_steps_max) return false;
    return true;
  }
  if (events_.empty()) {
    if (deadlines_.empty() || ++idle_steps_ > idle_steps_max) return false;
    advance();
    return true;
  }
  idle_steps_ = 0;
  if (!deadlines_.empty() && random_.below(timer_share) == 0) {
    advance();
  } else {
    perform_one();
  }
  return true;
}

void SeededEngine::perform_one() {
  std::size_t index = random_.below(events_.size());
  for (int draw = 0; draw < events_[index].redraws; ++draw) index = random_.below(events_.size());
  Event event = std::move(events_[index]);
  events_[index] = std::move(events_.back());
  events_.pop_back();
  note(event.number);
  now_ += std::chrono::microseconds(random_.below(200));
  event.work();
}

void SeededEngine::advance() {
  now_ = std::max(now_, *deadlines_.begin());
  note(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  sleepers_.wake_all();
}

}  // namespace crash
