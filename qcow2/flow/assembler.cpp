#include "qcow2/flow/assembler.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/alignment.h"
#include "core/check.h"
#include "qcow2/limits.h"

namespace qcow2 {
namespace {

constexpr std::uint64_t bookkeeping_bytes = 1024;  // about what a dirty cluster costs beside its bytes

// The rest is for what is being encoded: some clusters at least, or the encoder's lanes would wait for each other.
std::uint64_t share_for_gathering(std::uint64_t dirty_bytes_max, std::uint64_t cluster_size) {
  const std::uint64_t encoding = std::max(dirty_bytes_max / 8, 4 * cluster_size);
  return dirty_bytes_max - std::min(encoding, dirty_bytes_max / 2);
}

}  // namespace

Assembler::Assembler(core::Engine& engine, core::FailStop& failure, const Geometry& geometry,
                     std::uint64_t dirty_bytes_max)
    : engine_(engine),
      failure_(failure),
      geometry_(geometry),
      dirty_bytes_max_(dirty_bytes_max),
      gathering_bytes_max_(share_for_gathering(dirty_bytes_max, geometry.cluster_size())),
      gathering_clusters_max_(limits::gathering_reserve_max >> geometry.cluster_bits) {}

void Assembler::set_dirty_bytes_max(std::uint64_t bytes) {
  dirty_bytes_max_ = bytes;
  gathering_bytes_max_ = share_for_gathering(bytes, geometry_.cluster_size());
  room_.wake_all();
}

core::Awaitable<void> Assembler::wait_for_room() {
  failure_.check();
  while (dirty_bytes_ >= dirty_bytes_max_) {
    const bool under_way = outstanding_.size() > gathering_by_age_.size();
    if (under_way) {
      co_await room_.wait();
      failure_.check();
    } else {
      co_await drain();  // nobody else will make room: what was put back is tried again, and told if that is in vain
    }
  }
}

Assembler::Gathering& Assembler::gathering_for(GuestCluster cluster) {
  Dirty& dirty = dirty_[cluster];
  if (!dirty.gathering) {
    dirty.gathering.emplace(Gathering{DirtyBytes(geometry_.cluster_size()), engine_.now(), next_born_++});
    gathering_by_age_[dirty.gathering->born] = cluster;
    outstanding_.insert(dirty.gathering->born);
  }
  return *dirty.gathering;
}

void Assembler::charge(Gathering& gathering) {
  const std::uint64_t charge = gathering.bytes.memory() + bookkeeping_bytes;
  dirty_bytes_ = dirty_bytes_ - gathering.charge + charge;
  gathering_bytes_ = gathering_bytes_ - gathering.charge + charge;
  gathering.charge = charge;
}

void Assembler::write(GuestCluster cluster, std::uint64_t within, core::SharedBytes bytes) {
  Gathering& gathering = gathering_for(cluster);
  gathering.bytes.write(within, std::move(bytes));
  wrote(cluster, gathering);
}

void Assembler::write_zeros(GuestCluster cluster, ByteRange range) {
  Gathering& gathering = gathering_for(cluster);
  gathering.bytes.write_zeros(range);
  wrote(cluster, gathering);
}

void Assembler::wrote(GuestCluster cluster, Gathering& gathering) {
  charge(gathering);
  if (gathering.bytes.complete()) seal(cluster);
  relieve_pressure();
}

void Assembler::seal(GuestCluster cluster) {
  Dirty& dirty = dirty_.at(cluster);
  Gathering& gathering = *dirty.gathering;
  if (dirty.sealed) {
    gathering.seal_wanted = true;
    return;
  }
  const auto sealed = std::make_shared<SealedCluster>(
      SealedCluster{cluster, std::move(gathering.bytes), gathering.born, gathering.charge});
  gathering_by_age_.erase(gathering.born);
  hindrances_.erase(gathering.born);
  gathering_bytes_ -= gathering.charge;
  dirty.gathering.reset();
  dirty.sealed = sealed;
  sealed_.push_back(sealed);
  work_.wake_one();
}

void Assembler::seal_older_than(std::uint64_t born) {
  auto oldest = gathering_by_age_.begin();
  while (oldest != gathering_by_age_.end() && oldest->first < born) {
    const GuestCluster cluster = oldest->second;
    ++oldest;  // seal() erases what it seals
    seal(cluster);
  }
}

// Some at a time, so that the encoder's lanes get work worth a change of threads.
void Assembler::relieve_pressure() {
  if (gathering_bytes_ <= gathering_bytes_max_ && gathering_by_age_.size() <= gathering_clusters_max_) return;
  const std::uint64_t step = engine_.pool().size() * limits::lane_bytes;  // the pool's size may change
  std::uint64_t bytes = 0;
  auto oldest = gathering_by_age_.begin();
  while (bytes < step && oldest != gathering_by_age_.end()) {
    const GuestCluster cluster = oldest->second;
    ++oldest;
    seal(cluster);
    bytes += geometry_.cluster_size();
  }
}

void Assembler::drop_gathering(Dirty& dirty) {
  if (!dirty.gathering) return;
  const std::uint64_t born = dirty.gathering->born;
  const std::uint64_t charge = dirty.gathering->charge;
  gathering_by_age_.erase(born);
  hindrances_.erase(born);
  gathering_bytes_ -= charge;
  dirty.gathering.reset();
  finish(born, charge);
}

void Assembler::finish(std::uint64_t born, std::uint64_t charge) {
  outstanding_.erase(born);
  dirty_bytes_ -= charge;
  room_.wake_all();
  drained_.wake_all();
}

void Assembler::forget(GuestCluster cluster) {
  const auto found = dirty_.find(cluster);
  if (found == dirty_.end()) return;
  drop_gathering(found->second);
  // The encoder may have it in hand: it finds the mark before it would name the result, and then calls placed().
  if (found->second.sealed) found->second.sealed->superseded = true;
  dirty_.erase(found);
}

std::optional<std::chrono::steady_clock::time_point> Assembler::oldest() const {
  if (gathering_by_age_.empty()) return std::nullopt;
  return dirty_.at(gathering_by_age_.begin()->second).gathering->since;
}

std::vector<ByteRange> Assembler::copy_known(GuestCluster cluster, ByteRange range, core::MutableBytes target) const {
  const auto found = dirty_.find(cluster);
  if (found == dirty_.end()) return {range};
  std::vector<ByteRange> unknown{range};
  if (const auto& upper = found->second.gathering) {
    upper->bytes.copy_known(range, target);
    unknown = upper->bytes.missing(range);
  }
  const auto& lower = found->second.sealed;
  if (!lower) return unknown;
  std::vector<ByteRange> rest;
  for (const ByteRange& gap : unknown) {
    lower->bytes.copy_known(gap, target.subspan(gap.begin - range.begin, gap.length()));
    for (const ByteRange& part : lower->bytes.missing(gap)) rest.push_back(part);
  }
  return rest;
}

core::Awaitable<void> Assembler::drain() {
  const std::uint64_t until = next_born_;
  const std::uint64_t since = hindrances_seen_;
  seal_older_than(until);
  failure_.check();
  while (!all_placed_or_put_back(until, since)) {
    co_await drained_.wait();
    failure_.check();
  }
  const auto hindered = hindrances_.begin();
  if (hindered != hindrances_.end() && hindered->first < until) {
    throw core::Error(hindered->second.code, hindered->second.sentence);
  }
}

bool Assembler::all_placed_or_put_back(std::uint64_t until, std::uint64_t since) const {
  for (const std::uint64_t born : outstanding_) {
    if (born >= until) break;
    const auto hindered = hindrances_.find(born);
    if (hindered == hindrances_.end() || hindered->second.number <= since) return false;
  }
  return true;
}

core::ErrorCode Assembler::hindrance() const {
  return hindrances_.empty() ? core::ErrorCode() : hindrances_.begin()->second.code;
}

// The layers become one again, as old as the older of them.
void Assembler::put_back(const std::shared_ptr<SealedCluster>& sealed, const std::exception& error) {
  if (sealed->superseded) return finish(sealed->born, sealed->charge);
  Dirty& dirty = dirty_.at(sealed->guest);
  dirty.sealed.reset();
  const bool was_complete = sealed->bytes.complete();
  dirty_bytes_ -= sealed->charge;
  if (dirty.gathering) {
    dirty.gathering->bytes.add_below(sealed->bytes);
    gathering_by_age_.erase(dirty.gathering->born);
    outstanding_.erase(dirty.gathering->born);
  } else {
    dirty.gathering.emplace(Gathering{std::move(sealed->bytes), engine_.now(), sealed->born});
  }
  dirty.gathering->born = sealed->born;
  dirty.gathering->seal_wanted = false;
  charge(*dirty.gathering);
  gathering_by_age_[sealed->born] = sealed->guest;
  if (dirty.gathering->bytes.complete() && !was_complete) {
    seal(sealed->guest);  // what was written meanwhile completes it
  } else {
    const auto* known = dynamic_cast<const core::Error*>(&error);
    const core::ErrorCode code = known != nullptr ? known->code() : core::make_error_code(core::Errc::corrupt_image);
    hindrances_[sealed->born] = {code, core::describe(error), ++hindrances_seen_};
  }
  room_.wake_all();
  drained_.wake_all();
}

core::Awaitable<std::vector<std::shared_ptr<SealedCluster>>> Assembler::take(std::uint64_t bytes_max,
                                                                             std::size_t takers) {
  while (sealed_.empty() && !closed_) co_await work_.wait();
  const std::uint64_t share = core::divide_up(sealed_.size(), takers);
  const std::uint64_t count = std::min(share, std::max<std::uint64_t>(1, bytes_max >> geometry_.cluster_bits));
  const auto end = sealed_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<std::shared_ptr<SealedCluster>> taken(std::make_move_iterator(sealed_.begin()),
                                                    std::make_move_iterator(end));
  sealed_.erase(sealed_.begin(), end);
  co_return taken;
}

void Assembler::placed(const std::shared_ptr<SealedCluster>& sealed) {
  finish(sealed->born, sealed->charge);
  if (sealed->superseded) return;  // forget() has already dropped it from dirty_
  const auto found = dirty_.find(sealed->guest);
  CHECK(found != dirty_.end() && found->second.sealed == sealed);
  found->second.sealed.reset();
  if (!found->second.gathering) {
    dirty_.erase(found);
  } else if (found->second.gathering->seal_wanted) {
    seal(sealed->guest);
  }
}

void Assembler::wake_all() {
  room_.wake_all();
  drained_.wake_all();
}

void Assembler::close() {
  closed_ = true;
  work_.wake_all();
}

}  // namespace qcow2
