// The guest: what it does to its disk, at random, and what it remembers of it.
#pragma once

#include <string>
#include <vector>

#include "core/guest_disk.h"
#include "tests/crash/history.h"
#include "tests/crash/profile.h"
#include "tests/crash/seeded_engine.h"

namespace crash {

/// Several operations are under way at once, on disjoint ranges. Everything is entered into the history; every read is
/// compared with it.
class Guest {
 public:
  Guest(SeededEngine& engine, core::GuestDisk& disk, History& history, const Habits& habits, std::uint64_t seed);

  /// Completes when all operations have. Errors of the disk go to failure(); they end the guest's activity.
  core::Awaitable<void> live();
  core::Awaitable<void> close();
  core::Awaitable<void> flush();
  /// Every byte of the disk is what the history says.
  core::Awaitable<void> read_all();

  const std::string& wrong() const { return wrong_; }      ///< a read that showed something else; empty for none
  const std::string& failure() const { return failure_; }  ///< the first error that the disk reported
  bool told() const { return !failure_.empty(); }

 private:
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  class Lock;

  core::Awaitable<void> act(unsigned operations);
  core::Awaitable<void> act_once();
  core::Awaitable<void> write();
  core::Awaitable<void> write_range(Range range);
  core::Awaitable<void> write_bytes(Range range, core::SharedBytes bytes);
  core::Awaitable<void> change(core::Awaitable<void> step, Range range, std::uint64_t operation);
  core::Awaitable<void> discard();
  core::Awaitable<void> discard_range(Range range);
  core::Awaitable<void> whim();
  core::Awaitable<void> churn();
  core::Awaitable<void> duel();
  core::Awaitable<void> trample(Range range);
  core::Awaitable<void> commit_often(Range range);
  core::Awaitable<void> spread();
  core::Awaitable<void> press();
  core::Awaitable<void> overwrite_until_compacted(Range among);
  core::Awaitable<void> write_and_flush(std::uint64_t at);
  core::Awaitable<void> flush_storm();
  core::Awaitable<void> compact();
  core::Awaitable<void> resize();
  core::Awaitable<void> read();
  core::Awaitable<void> pause();
  core::Awaitable<void> compare(std::uint64_t at, std::uint64_t length);
  Range draw_range();
  std::uint64_t cluster() const { return disk_.cluster_size(); }
  static Range sectors_of(Range range);
  bool is_free(Range range) const;
  core::SharedBytes draw_bytes(std::uint64_t length, std::uint64_t kind);

  SeededEngine& engine_;
  core::GuestDisk& disk_;
  History& history_;
  Habits habits_;
  Random random_;
  std::vector<Range> busy_;
  std::vector<Range> uncertain_;  // changed by what failed
  bool compacting_ = false;
  std::uint64_t cursor_ = 0;  // of sequential writing
  std::string wrong_;
  std::string failure_;
};

}  // namespace crash
