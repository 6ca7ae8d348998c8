// What goes on in an open image beside the guest's work, from its beginning to its end.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <cerrno>

#include "core/alignment.h"
#include "core/error.h"
#include "qcow2/disk.h"

namespace qcow2 {

void Disk::start() {
  if (options_.read_only) return;
  file_.be_patient();
  encoder_.add_lanes();
  keeper_running_ = true;
  boost::asio::co_spawn(engine_.executor(), keep_committing(), core::Supervised{"background commits"});
  if (!surveyed_) return;
  ++movers_;
  boost::asio::co_spawn(engine_.executor(), keep_clean(), core::Supervised{"cleaning"});
}

core::Awaitable<void> Disk::keep_committing() {
  auto last = engine_.now();
  bool hindered = false;
  while (!must_end() && !failure_.failed()) {
    const std::chrono::milliseconds interval(options_.commit_interval_ms);  // it may change
    const auto tick = std::max<std::chrono::milliseconds>(interval / 4, std::chrono::milliseconds(1));
    if (hindered || !commit_.large()) co_await engine_.sleep_for(tick);
    if (must_end()) break;
    const bool due = commit_.pending() && engine_.now() - last >= interval - tick;
    if (!commit_.pending() || commit_.large()) last = engine_.now();
    try {
      co_await commit_or_tidy_up(due);
      hindered = false;
    } catch (const std::exception& error) {
      // A failure is recorded; want of space and unreadable clusters may end, so the next turn tries again. Either is
      // reported to whoever asks for durability.
      hindered = true;
    }
    if (due || hindered) last = engine_.now();
  }
  keeper_running_ = false;
  keeper_ended_.wake_all();
}

// Nobody has been promised space, nor is about to be.
bool Disk::quiet() const { return !gate_.busy() && !resizes_.busy() && commit_.at_rest(); }

bool Disk::quiet_for_long() const {
  const std::chrono::milliseconds long_enough(std::min(options_.commit_interval_ms, limits::quiet_before_tidying_ms));
  return quiet() && engine_.now() - commit_.last_froze() >= long_enough;
}

core::Awaitable<void> Disk::commit_or_tidy_up(bool due) {
  if (commit_.large()) {
    co_await commit_.publish();
  } else if (due && !commit_.at_rest()) {
    co_await commit_.flush();
  } else {
    while (quiet_for_long() && !compacting_ && !closing_ && giving_back_.due()) co_await giving_back_.a_round();
  }
}

core::Awaitable<void> Disk::keep_clean() {
  while (!closing_ && !failure_.failed()) {
    if (options_.clean == Cleaning::off) {
      co_await cleaning_set_.wait();
      continue;
    }
    const std::chrono::milliseconds tick(std::max(options_.commit_interval_ms / 4, 1u));
    co_await engine_.sleep_for(tick);
    if (closing_ || compacting_ || options_.clean == Cleaning::off || !cleaner_.due()) continue;
    try {
      co_await clean_once();
    } catch (const std::exception& error) {
      spdlog::debug("cleaning: {}", core::describe(error));  // want of space, or a failure that is recorded
    }
  }
  --movers_;
  keeper_ended_.wake_all();
}

core::Awaitable<void> Disk::clean_once() {
  const bool always = options_.clean == Cleaning::on;
  if (!always && (!quiet_for_long() || giving_back_.due())) co_return;  // what is free already comes first
  const std::uint64_t changes = changes_;
  const auto cancelled = [this, always, changes] {
    return closing_ || compacting_ || options_.clean == Cleaning::off || (!always && changes_ != changes);
  };
  const std::function<bool()> must_stop = cancelled;
  co_await cleaner_.a_round(always ? limits::cleaning_pause : 0, must_stop);
}

core::Awaitable<void> Disk::compact(const core::CompactOrder& order) {
  require_writable();
  if (!surveyed_) {
    core::fail_errno(EOPNOTSUPP, options_.name + ": an image with snapshots or an external data file is not compacted");
  }
  if (closing_ || compacting_) core::fail_errno(EBUSY, options_.name + ": it is being compacted already, or unmounted");
  compacting_ = true;
  ++movers_;
  core::CompactOrder until_closed = order;
  until_closed.cancelled = [this, &order] { return closing_ || failure_.failed() || order.cancelled(); };
  std::exception_ptr error;
  try {
    std::unique_ptr<Codec> recompressor;
    if (order.recompress_level) recompressor = make_codec(compression_, *order.recompress_level, options_.window);
    Compaction compaction(
        {gate_, file_, commit_, mover_, map_, refcounts_, clusters_, fragments_, placer_, giving_back_}, geometry_,
        version_, FragmentAllocator::chunk_clusters(geometry_, fresh_block_), size_, recompressor.get(), until_closed);
    co_await compaction.run();
  } catch (...) {
    error = std::current_exception();
  }
  compacting_ = false;
  --movers_;
  keeper_ended_.wake_all();
  if (error) std::rethrow_exception(error);
}

core::Awaitable<void> Disk::close() {
  if (options_.read_only) {
    co_await cache_.stop();
    co_await backing_.close();
    co_return;
  }
  co_await end_background();
  try {
    co_await finish();
  } catch (const std::exception& error) {
    failure_.record(error);
  }
  try {
    co_await cache_.stop();
  } catch (const std::exception& error) {
    failure_.record(error);
  }
  assembler_.close();
  co_await encoder_.join();
  co_await commit_.join();
  co_await backing_.close();
  failure_.check();
}

// Its writes may be waiting for space: they try once more, and then nobody is left who could make room and ask again.
core::Awaitable<void> Disk::end_background() {
  closing_ = true;
  bool tried = false;
  while (keeper_running_ || movers_ != 0) {
    engine_.wake_sleepers();
    cleaning_set_.wake_all();
    if (!failure_.short_of_space() || tried) {
      co_await keeper_ended_.wait();
      continue;
    }
    co_await file_.retry();
    tried = failure_.short_of_space();
    if (tried) file_.give_up();
  }
  co_await file_.retry();
  file_.give_up();
}

core::Awaitable<void> Disk::finish() {
  co_await commit_.finish();
  fragments_.close();
  if (!commit_.changed_image()) co_return;
  co_await giving_back_.everything();
  // Its last cluster was written whole.
  if (with_data_) co_await with_data_->resize_data(size_, core::align_up(size_, sector_size));
}

}  // namespace qcow2
