#include "tests/crash/seeded_engine.h"

#include <utility>

namespace crash {
namespace {

constexpr std::uint64_t idle_steps_max = 20000;  // of the clock alone: nobody is going to do anything any more
constexpr std::uint64_t timer_share = 48;        // one event of so many is a timer's

constexpr std::uint64_t late_steps_max = 12;
constexpr std::uint64_t very_late_steps_max = 160;

}  // namespace

SeededEngine::SeededEngine(std::uint64_t seed)
    : random_(seed),
      impatience_(static_cast<unsigned>(random_.below(4) * 15)),
      laziness_(random_.chance(15) ? 50 : 12),
      pool_(*this, random_.between(1, 4)),
      io_(*this, 1) {}

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
  std::uint64_t due = engine_.steps_;
  if (engine_.random_.chance(engine_.laziness_)) {
    due += engine_.random_.below(engine_.random_.chance(50) ? late_steps_max : very_late_steps_max);
  }
  engine_.events_.push_back({engine_.next_event_++, due, std::move(job)});
}

bool SeededEngine::step() {
  std::vector<std::size_t> due;
  for (std::size_t i = 0; i < events_.size(); ++i) {
    if (events_[i].due <= steps_) due.push_back(i);
  }
  const bool overtake = !due.empty() && random_.chance(impatience_);
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
  if (!deadlines_.empty() && (due.empty() || random_.below(timer_share) == 0)) {
    advance();
  } else {
    perform(due.empty() ? random_.below(events_.size()) : due[random_.below(due.size())]);
  }
  return true;
}

void SeededEngine::perform(std::size_t index) {
  Event event = std::move(events_[index]);
  events_[index] = std::move(events_.back());
  events_.pop_back();
  note(event.number);
  ++steps_;
  now_ += std::chrono::microseconds(random_.below(200));
  event.work();
}

void SeededEngine::advance() {
  ++steps_;
  now_ = std::max(now_, *deadlines_.begin());
  note(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  sleepers_.wake_all();
}

}  // namespace crash
