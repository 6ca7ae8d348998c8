#include "fuse/live_compaction.h"

#include <boost/asio/co_spawn.hpp>
#include <cerrno>

#include "core/async.h"
#include "core/error.h"

namespace fuse {

struct LiveCompaction::State {
  bool running = false;
  bool cancelled = false;
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  std::string ended = "idle";
};

LiveCompaction::LiveCompaction(core::Engine& engine, core::GuestDisk& disk)
    : engine_(engine), disk_(disk), state_(std::make_shared<State>()) {}

std::string LiveCompaction::text() const {
  if (!state_->running) return state_->ended;
  return "running " + std::to_string(state_->done) + " " + std::to_string(state_->total);
}

int LiveCompaction::set(const std::string& value) {
  if (value == "off") {
    state_->cancelled = true;
    return 0;
  }
  std::optional<int> level;
  if (value.size() == 1 && value[0] >= '1' && value[0] <= '9') level = value[0] - '0';
  if (!level && value != "on") return EINVAL;
  if (state_->running) return EBUSY;
  state_ = std::make_shared<State>();
  state_->running = true;
  boost::asio::co_spawn(engine_.executor(), run(disk_, state_, level), core::Supervised{"compaction"});
  return 0;
}

core::Awaitable<void> LiveCompaction::run(core::GuestDisk& disk, std::shared_ptr<State> state,
                                          std::optional<int> recompress_level) {
  core::CompactOrder order;
  order.recompress_level = recompress_level;
  order.cancelled = [state] { return state->cancelled; };
  order.progress = [state](std::uint64_t done, std::uint64_t total) {
    state->done = done;
    state->total = total;
  };
  try {
    co_await disk.compact(order);
    state->ended = state->cancelled ? "stopped" : "done";
  } catch (const std::exception& error) {
    state->ended = "failed " + core::describe(error);
  }
  state->running = false;
}

}  // namespace fuse
