#include "tests/crash/workload.h"

#include <algorithm>
#include <cstring>

#include "core/alignment.h"

namespace crash {
namespace {

constexpr std::uint64_t forever = ~0ull;

// Of content: 0 to 5 shrink, 9 is zeros, the others do not shrink or hardly.
constexpr std::uint64_t kinds = 10;
constexpr std::uint64_t incompressible = 7;
constexpr std::uint64_t nearly_incompressible = 8;  // a fragment nearly as long as its cluster

}  // namespace

// Nobody else works on the range while one exists.
class Guest::Lock {
 public:
  Lock(Guest& guest, Range range) : guest_(guest), range_(sectors_of(range)) { guest_.busy_.push_back(range_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    const auto mine = [this](const Range& other) { return other.begin == range_.begin && other.end == range_.end; };
    guest_.busy_.erase(std::find_if(guest_.busy_.begin(), guest_.busy_.end(), mine));
  }

 private:
  Guest& guest_;
  Range range_;
};

Guest::Guest(SeededEngine& engine, core::GuestDisk& disk, History& history, const Habits& habits, std::uint64_t seed)
    : engine_(engine), disk_(disk), history_(history), habits_(habits), random_(seed) {}

Guest::Range Guest::sectors_of(Range range) {
  return {core::align_down(range.begin, guest_sector),
          range.end == forever ? forever : core::align_up(range.end, guest_sector)};
}

bool Guest::is_free(Range range) const {
  const Range sectors = sectors_of(range);
  const auto touches = [=](const Range& other) { return other.begin < sectors.end && sectors.begin < other.end; };
  return std::none_of(busy_.begin(), busy_.end(), touches) &&
         std::none_of(uncertain_.begin(), uncertain_.end(), touches);
}

// What a failed change leaves behind is any mixture of old and new: nobody builds on it.
core::Awaitable<void> Guest::change(core::Awaitable<void> step, Range range, std::uint64_t operation) {
  try {
    co_await std::move(step);
  } catch (...) {
    uncertain_.push_back(sectors_of(range));
    throw;
  }
  history_.complete(operation);
}

core::Awaitable<void> Guest::live() {
  try {
    for (unsigned i = 0; i < habits_.opening_whims; ++i) co_await whim();
    for (unsigned i = 0; i < habits_.opening_churns; ++i) co_await churn();
    for (unsigned i = 0; i < habits_.opening_duels; ++i) co_await duel();
    for (unsigned i = 0; i < habits_.opening_spreads; ++i) co_await spread();
    for (unsigned i = 0; i < habits_.opening_presses; ++i) co_await press();
  } catch (const std::exception& error) {
    failure_ = core::describe(error);
    co_return;
  }
  core::TaskGroup actors(engine_.executor());
  for (unsigned i = 0; i < habits_.actors; ++i) actors.spawn(act(habits_.operations / habits_.actors + 1));
  co_await actors.join();
}

core::Awaitable<void> Guest::act(unsigned operations) {
  for (unsigned i = 0; i < operations && !told() && wrong_.empty(); ++i) {
    try {
      co_await act_once();
    } catch (const std::exception& error) {
      if (failure_.empty()) failure_ = core::describe(error);
    }
  }
}

core::Awaitable<void> Guest::act_once() {
  const Habits& h = habits_;
  const unsigned all = h.writes + h.discards + h.flushes + h.resizes + h.reads + h.pauses + h.whims + h.compactions;
  std::uint64_t point = random_.below(all);
  const auto falls_on = [&point](unsigned share) {
    const bool here = point < share;
    point -= here ? 0 : share;
    return here;
  };
  if (falls_on(h.writes)) {
    co_await write();
  } else if (falls_on(h.discards)) {
    co_await discard();
  } else if (falls_on(h.flushes)) {
    co_await flush_storm();
  } else if (falls_on(h.resizes)) {
    co_await resize();
  } else if (falls_on(h.reads)) {
    co_await read();
  } else if (falls_on(h.whims)) {
    co_await whim();
  } else if (falls_on(h.compactions)) {
    co_await compact();
  } else {
    co_await pause();
  }
}

// ---- what is written, and where

Guest::Range Guest::draw_range() {
  const std::uint64_t area = std::max(habits_.area, cluster());
  const std::uint64_t clusters = area / cluster();
  const std::uint64_t unit = habits_.whole_sectors ? guest_sector : 1;
  std::uint64_t at = 0;
  std::uint64_t length = 0;
  switch (random_.below(5)) {
    case 0:  // going on where the last one ended
      at = cursor_ % area;
      length = random_.between(1, habits_.clusters_max) * cluster();
      cursor_ = at + length;
      break;
    case 1:
    case 2:  // whole clusters
      at = random_.below(clusters) * cluster();
      length = random_.between(1, habits_.clusters_max) * cluster();
      break;
    case 3:  // part of a cluster
      at = random_.below(area / guest_sector) * guest_sector;
      length = random_.between(1, std::max<std::uint64_t>(1, cluster() / guest_sector)) * guest_sector;
      break;
    default:  // any bytes
      at = core::align_down(random_.below(area), unit);
      length = core::align_up(random_.between(1, 2 * cluster()), unit);
      break;
  }
  if (habits_.far != 0 && random_.chance(6)) at += habits_.far;
  return {at, at + length};
}

core::SharedBytes Guest::draw_bytes(std::uint64_t length, std::uint64_t kind) {
  const auto buffer = std::make_shared<core::Buffer>(length);
  const std::uint64_t period = kind < 4 ? 32 : kind < 6 ? 200 : length;  // the shorter, the more it shrinks
  std::uint64_t word = 0;
  for (std::uint64_t i = 0; i < length; ++i) {
    if (i >= period && i % 997 != 0) {
      buffer->data()[i] = buffer->data()[i - period];
      continue;
    }
    if (i % 8 == 0 || i >= period) word = random_.next();
    buffer->data()[i] = static_cast<std::byte>(word >> (i % 8 * 8));
  }
  if (kind == 9) std::memset(buffer->data(), 0, length);
  if (kind == nearly_incompressible) std::memset(buffer->data(), 0, length / 8);
  return core::SharedBytes(std::shared_ptr<const core::Buffer>(buffer));
}

// ---- what is done

core::Awaitable<void> Guest::write() {
  const Range range = draw_range();
  if (!is_free(range)) co_return;
  const Lock lock(*this, range);
  co_await write_range(range);
}

core::Awaitable<void> Guest::write_range(Range range) {
  const core::SharedBytes bytes = draw_bytes(range.end - range.begin, random_.below(kinds));
  co_await write_bytes(range, bytes);
}

core::Awaitable<void> Guest::write_bytes(Range range, core::SharedBytes bytes) {
  const std::uint64_t operation = history_.begin_write(range.begin, bytes.bytes);
  const core::DiskOffset at{range.begin};
  co_await change(disk_.write(at, bytes), range, operation);
}

core::Awaitable<void> Guest::discard() {
  Range range = draw_range();
  range.end = std::min(range.end, disk_.size());
  if (range.begin >= range.end || !is_free(range)) co_return;
  const Lock lock(*this, range);
  co_await discard_range(range);
}

core::Awaitable<void> Guest::discard_range(Range range) {
  const std::uint64_t operation = history_.begin_zero(range.begin, range.end - range.begin);
  const core::DiskOffset at{range.begin};
  co_await change(disk_.zero(at, range.end - range.begin), range, operation);
}

// Writes and discards before what was written can have been named; then writes what may land in the space it had.
core::Awaitable<void> Guest::whim() {
  const std::uint64_t at = random_.below(std::max<std::uint64_t>(1, habits_.area / cluster())) * cluster();
  const Range range{at, at + cluster()};
  if (range.end > disk_.size() || !is_free(range)) co_return;
  {
    const Lock lock(*this, range);
    co_await write_range(range);
    if (random_.chance(50)) {
      const std::chrono::milliseconds moment(1);
      co_await engine_.sleep_for(moment);
    }
    co_await discard_range(range);
  }
  if (random_.chance(80)) co_await flush();
  const std::uint64_t rounds = random_.below(4);
  for (std::uint64_t i = 0; i < rounds; ++i) co_await write();
}

// Reads what is overwritten and made durable several times meanwhile.
core::Awaitable<void> Guest::churn() {
  const std::uint64_t at = random_.below(std::max<std::uint64_t>(1, habits_.area / cluster())) * cluster();
  const std::uint64_t end =
      core::align_down(std::min(disk_.size(), at + random_.between(2, 12) * cluster()), cluster());
  const Range range{at, end};
  if (at >= end || !is_free(range)) co_return;
  const Lock lock(*this, range);
  core::TaskGroup reader(engine_.executor());
  reader.spawn(compare(range.begin, range.end - range.begin));
  std::exception_ptr error;
  try {
    for (int round = 0; round < 4; ++round) {
      co_await write_range(range);
      co_await flush();
    }
  } catch (...) {
    error = std::current_exception();
  }
  co_await reader.join();
  if (error) std::rethrow_exception(error);
}

// One writes and discards the same cluster, over and over, while others make batch after batch durable, each of which
// takes space anew.
core::Awaitable<void> Guest::duel() {
  const std::uint64_t at = random_.below(std::max<std::uint64_t>(1, habits_.area / cluster())) * cluster();
  const Range range{at, at + 3 * cluster()};
  if (range.end > disk_.size() || !is_free(range)) co_return;
  const Lock lock(*this, range);
  core::TaskGroup actors(engine_.executor());
  const Range first{at, at + cluster()};
  const Range second{first.end, first.end + cluster()};
  const Range third{second.end, second.end + cluster()};
  actors.spawn(trample(first));
  actors.spawn(commit_often(second));
  actors.spawn(commit_often(third));
  co_await actors.join();
}

core::Awaitable<void> Guest::trample(Range range) {
  for (int round = 0; round < 6; ++round) {
    const std::uint64_t kind = random_.chance(50) ? incompressible : nearly_incompressible;
    const core::SharedBytes first = draw_bytes(range.end - range.begin, kind);
    co_await write_bytes(range, first);
    if (random_.chance(50)) co_await flush();  // then the second is written in place of the first
    const core::SharedBytes second = draw_bytes(range.end - range.begin, kind);
    if (random_.chance(80)) co_await write_bytes(range, second);
    const std::chrono::milliseconds moment(random_.below(3));
    if (random_.chance(50)) co_await engine_.sleep_for(moment);
    co_await discard_range(range);
  }
}

core::Awaitable<void> Guest::commit_often(Range range) {
  for (int round = 0; round < 8; ++round) {
    if (random_.chance(70)) {
      const core::SharedBytes bytes = draw_bytes(range.end - range.begin, incompressible);
      co_await write_bytes(range, bytes);
    }
    co_await flush();
    if (random_.chance(70)) co_await discard_range(range);
  }
}

// Several write behind L2 tables of their own, and each makes its own durable.
core::Awaitable<void> Guest::spread() {
  const std::uint64_t per_table = cluster() * (cluster() / 8);
  const std::uint64_t tables = disk_.size() / per_table;
  if (tables < 3) co_return;
  core::TaskGroup writers(engine_.executor());
  const std::uint64_t first = random_.below(tables - 2);
  for (std::uint64_t i = 0; i < 3; ++i) writers.spawn(write_and_flush((first + i) * per_table));
  co_await writers.join();
}

// Tables that lie behind what is discarded then: they move while others are named in them.
core::Awaitable<void> Guest::press() {
  const std::uint64_t clusters = std::min(disk_.size(), habits_.area) / cluster();
  const Range all{0, clusters * cluster()};
  if (clusters < 3 || !is_free(all)) co_return;
  const Range discarded{0, clusters / 3 * 2 * cluster()};
  const Range kept{discarded.end, all.end};
  {
    const Lock lock(*this, all);
    for (std::uint64_t at = 0; at < all.end; at += cluster()) {
      const Range range{at, at + cluster()};
      const core::SharedBytes bytes = draw_bytes(cluster(), random_.between(4, 8));
      co_await write_bytes(range, bytes);
      if (random_.chance(10)) co_await flush();
    }
    co_await flush();
    co_await discard_range(discarded);
    co_await flush();
  }
  core::TaskGroup actors(engine_.executor());
  actors.spawn(compact());
  for (int i = 0; i < 2; ++i) actors.spawn(overwrite_until_compacted(kept));
  co_await actors.join();
}

core::Awaitable<void> Guest::overwrite_until_compacted(Range among) {
  const std::uint64_t clusters = (among.end - among.begin) / cluster();
  for (int i = 0; i < 20 && (compacting_ || i == 0); ++i) {
    const std::uint64_t at = among.begin + random_.below(clusters) * cluster();
    const Range range{at, at + cluster()};
    if (!is_free(range)) continue;
    const Lock lock(*this, range);
    co_await write_range(range);
    if (random_.chance(70)) co_await flush();
  }
}

core::Awaitable<void> Guest::write_and_flush(std::uint64_t at) {
  const Range range{at, at + cluster()};
  if (!is_free(range)) co_return;
  const Lock lock(*this, range);
  const std::chrono::milliseconds moment(random_.below(4));
  co_await engine_.sleep_for(moment);
  co_await write();
  co_await write_range(range);
  co_await flush();
}

core::Awaitable<void> Guest::flush() {
  const std::uint64_t token = history_.begin_flush();
  co_await disk_.flush();
  history_.complete_flush(token);
}

core::Awaitable<void> Guest::flush_storm() {
  const std::uint64_t width = random_.chance(70) ? 1 : random_.between(2, 4);
  const std::uint64_t rounds = random_.chance(80) ? 1 : 3;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    core::TaskGroup flushes(engine_.executor());
    for (std::uint64_t i = 0; i < width; ++i) flushes.spawn(flush());
    co_await flushes.join();
  }
}

// Beside all else, sometimes with stronger compression, sometimes given up after a while.
core::Awaitable<void> Guest::compact() {
  if (compacting_) co_return;
  compacting_ = true;
  core::CompactOrder order;
  if (random_.chance(30)) order.recompress_level = static_cast<int>(random_.between(1, 3));
  std::uint64_t patience = random_.chance(30) ? random_.below(40) : forever;
  order.cancelled = [&patience] { return patience == 0 || --patience == 0; };
  std::exception_ptr error;
  try {
    co_await disk_.compact(order);
  } catch (...) {
    error = std::current_exception();
  }
  compacting_ = false;
  if (error) std::rethrow_exception(error);
}

core::Awaitable<void> Guest::resize() {
  const std::uint64_t area = std::max(habits_.area, cluster());
  std::uint64_t size = random_.below(area + area / 2);
  if (habits_.whole_sectors || random_.chance(70)) size = core::align_down(size, guest_sector);
  if (habits_.far != 0 && random_.chance(15)) size += habits_.far;
  const Range taken{std::min(size, std::min(history_.size(), disk_.size())), forever};
  if (!is_free(taken)) co_return;
  const Lock lock(*this, taken);
  const std::uint64_t operation = history_.begin_resize(size);
  co_await change(disk_.resize(size), taken, operation);
}

// Beside whatever else is under way in the same range.
core::Awaitable<void> Guest::read() {
  Range range = draw_range();
  range.end = std::min(range.end, disk_.size());
  if (range.begin >= range.end) co_return;
  co_await compare(range.begin, range.end - range.begin);
}

core::Awaitable<void> Guest::compare(std::uint64_t at, std::uint64_t length) {
  core::Buffer buffer(length);
  const core::DiskOffset from{at};
  const std::uint64_t token = history_.begin_read();
  co_await disk_.read(from, buffer.span());
  const core::Bytes bytes = buffer.span();
  for (std::uint64_t sector = core::divide_up(at, guest_sector); (sector + 1) * guest_sector <= at + length; ++sector) {
    if (history_.had(token, sector, bytes.subspan(sector * guest_sector - at, guest_sector))) continue;
    if (wrong_.empty()) wrong_ = "a read shows something else in guest sector " + std::to_string(sector);
  }
  history_.complete_read(token);
}

core::Awaitable<void> Guest::pause() {
  const std::chrono::milliseconds duration(random_.between(1, 60));
  co_await engine_.sleep_for(duration);
}

core::Awaitable<void> Guest::read_all() {
  const std::uint64_t piece = std::max<std::uint64_t>(cluster(), 64 << 10);
  try {
    std::uint64_t at = 0;
    while (at < disk_.size()) {
      const core::DiskOffset from{at};
      const std::uint64_t next = co_await disk_.next_data(from);
      at = core::align_down(next, cluster());
      const std::uint64_t length = std::min(piece, disk_.size() - std::min(at, disk_.size()));
      if (length == 0) break;
      co_await compare(at, length);
      at += length;
    }
  } catch (const std::exception& error) {
    if (failure_.empty()) failure_ = core::describe(error);
  }
}

core::Awaitable<void> Guest::close() {
  const std::uint64_t token = history_.begin_flush();
  try {
    co_await disk_.close();
    history_.complete_flush(token);
  } catch (const std::exception& error) {
    if (failure_.empty()) failure_ = core::describe(error);
  }
}

}  // namespace crash
