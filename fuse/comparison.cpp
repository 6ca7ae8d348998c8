// Lanes take stretches in the order of the disk: once one has found a difference or cannot be read, the stretches
// before it are in the hands of others, and what comes first on the disk is known when they have ended.
#include "fuse/comparison.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "core/alignment.h"
#include "core/async.h"

namespace fuse {
namespace {

constexpr int comparing_lanes = 6;
constexpr std::uint64_t stretch_bytes = 1 << 20;
constexpr std::uint64_t sector = 512;

struct Stretch {
  std::uint64_t at = 0;
  std::uint64_t length = 0;
};

std::optional<std::uint64_t> mismatch(core::Bytes left, core::Bytes right) {
  if (std::memcmp(left.data(), right.data(), left.size()) == 0) return std::nullopt;  // wider than what finds the place
  return std::mismatch(left.begin(), left.end(), right.begin()).first - left.begin();
}

// One of the two disks, followed by zeros without end.
class Side {
 public:
  explicit Side(Source& source) : source_(source) {}

  core::Awaitable<void> read(std::uint64_t at, core::MutableBytes target) {
    const std::uint64_t left = source_.size() - std::min(at, source_.size());
    const std::uint64_t length = std::min<std::uint64_t>(left, target.size());
    std::memset(target.data() + length, 0, target.size() - length);
    if (length != 0) co_await source_.read(core::DiskOffset{at}, target.first(length));
  }

  /// The first byte from `at` on that may not be zero, or `end`. `at` never falls.
  core::Awaitable<std::uint64_t> next_data(std::uint64_t at, std::uint64_t end) {
    if (at >= data_end_ && at < source_.size()) {
      data_begin_ = co_await source_.next_data(core::DiskOffset{at});
      data_end_ = co_await source_.next_hole(core::DiskOffset{data_begin_});
    }
    co_return at < data_end_ ? std::max(at, data_begin_) : end;
  }

 private:
  Source& source_;
  std::uint64_t data_begin_ = 0;
  std::uint64_t data_end_ = 0;
};

class Comparison {
 public:
  Comparison(core::Engine& engine, Source& left, Source& right, std::uint64_t end, Progress& progress)
      : engine_(engine), left_(left), right_(right), end_(end), progress_(progress) {}

  core::Awaitable<void> lane();
  /// Throws what kept it from being known.
  std::optional<std::uint64_t> first_difference() const;

 private:
  core::Awaitable<std::optional<Stretch>> claim();
  core::Awaitable<void> find_next_data();
  core::Awaitable<void> compare(Stretch stretch, core::MutableBytes left, core::MutableBytes right);
  core::Awaitable<void> read_and_compare(std::uint64_t at, core::MutableBytes left, core::MutableBytes right);
  bool decided() const { return found_ || failure_; }
  void record_failure(std::uint64_t at);

  core::Engine& engine_;
  Side left_;
  Side right_;
  std::uint64_t end_;
  Progress& progress_;
  core::AsyncMutex claiming_;
  std::uint64_t at_ = 0;  ///< everything before it was claimed
  std::optional<std::uint64_t> found_;
  std::uint64_t failed_at_ = 0;
  std::exception_ptr failure_;  ///< the first on the disk so far
};

core::Awaitable<void> Comparison::lane() {
  core::Buffer left(stretch_bytes);
  core::Buffer right(stretch_bytes);
  while (!decided()) {
    const std::optional<Stretch> stretch = co_await claim();
    if (!stretch) break;
    co_await compare(*stretch, left.span().first(stretch->length), right.span().first(stretch->length));
    progress_.reached(stretch->at + stretch->length);
  }
}

std::optional<std::uint64_t> Comparison::first_difference() const {
  if (failure_ && found_.value_or(end_) >= failed_at_) std::rethrow_exception(failure_);
  return found_;
}

// Of the current exception.
void Comparison::record_failure(std::uint64_t at) {
  if (failure_ && failed_at_ <= at) return;
  failed_at_ = at;
  failure_ = std::current_exception();
}

core::Awaitable<std::optional<Stretch>> Comparison::claim() {
  const core::AsyncMutex::Guard alone = co_await claiming_.lock();
  try {
    if (at_ < end_) co_await find_next_data();
  } catch (const AllocationUnknown&) {
    record_failure(at_);
    at_ = end_;
  }
  if (at_ >= end_) co_return std::nullopt;
  const Stretch stretch{at_, std::min(core::align_down(at_, stretch_bytes) + stretch_bytes, end_) - at_};
  at_ += stretch.length;
  co_return stretch;
}

core::Awaitable<void> Comparison::find_next_data() {
  try {
    const std::uint64_t left = co_await left_.next_data(at_, end_);
    const std::uint64_t right = co_await right_.next_data(at_, end_);
    at_ = std::min(left, right);
  } catch (const core::Error& error) {
    throw AllocationUnknown(core::describe(error));
  }
}

// What cannot be read is tried again by halves: what lies before it may differ.
core::Awaitable<void> Comparison::compare(Stretch stretch, core::MutableBytes left, core::MutableBytes right) {
  bool readable = true;
  try {
    co_await read_and_compare(stretch.at, left, right);
  } catch (const core::Error&) {
    readable = false;
    if (stretch.length <= sector) record_failure(stretch.at);
  }
  if (readable || stretch.length <= sector) co_return;
  const Stretch front{stretch.at, core::align_up(stretch.length / 2, sector)};
  const Stretch back{front.at + front.length, stretch.length - front.length};
  co_await compare(front, left.first(front.length), right.first(front.length));
  const bool front_is_the_same = found_.value_or(end_) >= back.at && (!failure_ || failed_at_ >= back.at);
  if (front_is_the_same) co_await compare(back, left.last(back.length), right.last(back.length));
}

core::Awaitable<void> Comparison::read_and_compare(std::uint64_t at, core::MutableBytes left,
                                                   core::MutableBytes right) {
  core::TaskGroup reads(engine_.executor());
  reads.spawn(left_.read(at, left));
  reads.spawn(right_.read(at, right));
  co_await reads.join();
  auto job = [left, right] { return mismatch(left, right); };
  const std::optional<std::uint64_t> within = co_await core::run(engine_.pool(), job);
  if (within) found_ = std::min(found_.value_or(end_), at + *within);
}

}  // namespace

core::Awaitable<std::optional<std::uint64_t>> first_difference(core::Engine& engine, Source& left, Source& right,
                                                               std::uint64_t end, Progress& progress) {
  Comparison comparison(engine, left, right, end, progress);
  core::TaskGroup group(engine.executor());
  for (int i = 0; i < comparing_lanes; ++i) group.spawn(comparison.lane());
  co_await group.join();
  co_return comparison.first_difference();
}

}  // namespace fuse
