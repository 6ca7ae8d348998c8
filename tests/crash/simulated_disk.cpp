#include "tests/crash/simulated_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "core/alignment.h"
#include "core/error.h"
#include "core/read_ahead.h"
#include "tests/crash/content_hash.h"

namespace crash {
namespace {

std::uint64_t hash_pieces(std::span<const core::Bytes> pieces) {
  std::uint64_t hash = 0;
  for (const core::Bytes piece : pieces) hash = mix(hash, hash_bytes(piece));
  return hash;
}

}  // namespace

SimulatedDisk::SimulatedDisk(SeededEngine& engine, std::size_t block_size, std::size_t sector_size, Image content)
    : engine_(engine),
      block_size_(block_size),
      sector_size_(sector_size),
      durable_(std::move(content)),
      durable_size_(durable_.size()),
      current_(durable_) {
  durable_.resize(core::align_up(durable_.size(), 4096));
}

std::shared_ptr<core::BlockFile> SimulatedDisk::opened() {
  const std::shared_ptr<core::BlockFile> borrowed(this, [](core::BlockFile*) {});
  if (!device_) return borrowed;
  // To match disks that are some hundred kilobytes small.
  const core::ReadAhead::Sizes sizes{
      .chunk = 4096, .window = 32 << 10, .kept = 64 << 10, .slack = 32 << 10, .run = 4096};
  return std::make_shared<core::ReadAhead>(engine_, borrowed, sizes);
}

void SimulatedDisk::set_capacity(std::uint64_t bytes) {
  capacity_ = bytes;
  if (!allocated_.empty()) return;
  for (std::uint64_t at = 0; at < current_.size(); at += block_size_) {
    const std::uint64_t length = std::min<std::uint64_t>(block_size_, current_.size() - at);
    const bool taken = !all_zero(core::Bytes(current_).subspan(at, length));
    allocated_.push_back(taken);
    if (taken) ++allocated_count_;
  }
}

void SimulatedDisk::change_durably(std::uint64_t at, core::Bytes bytes) {
  apply_barrier(++clock_);
  grow_to(current_, at + bytes.size());
  grow_to(durable_, core::align_up(current_.size(), 4096));
  durable_size_ = std::max(durable_size_, current_.size());
  for (Image* image : {&durable_, &current_}) std::copy(bytes.begin(), bytes.end(), image->data() + at);
}

void SimulatedDisk::breach(const std::string& what) {
  if (misuse_.empty()) misuse_ = what;
}

void SimulatedDisk::require_within_device(std::uint64_t end) const {
  if (device_ && end > current_.size()) core::fail_errno(ENOSPC, "the device ends there");
}

std::optional<std::uint64_t> SimulatedDisk::allocated_bytes() const {
  if (device_) return std::nullopt;
  return capacity_ == unlimited ? current_.size() : allocated_count_ * block_size_;
}

void SimulatedDisk::grow_to(Image& image, std::uint64_t size) const {
  if (image.size() < size) image.resize(size);
}

int SimulatedDisk::next_fault(Kind kind) {
  const std::uint64_t index = counts_[static_cast<std::size_t>(kind)]++;
  engine_.note(static_cast<std::uint64_t>(kind));
  ++operations_;
  if (cut()) {
    ++faults_hit_;
    return EIO;
  }
  for (const Fault& fault : faults_) {
    if (fault.kind != kind || index < fault.index || (!fault.persistent && index > fault.index)) continue;
    ++faults_hit_;
    return fault.error;
  }
  return 0;
}

bool SimulatedDisk::take_space(std::uint64_t at, std::uint64_t length) {
  if (capacity_ == unlimited) return true;
  const std::uint64_t first = at / block_size_;
  const std::uint64_t last = core::divide_up(at + length, block_size_);
  if (allocated_.size() < last) allocated_.resize(last);
  std::uint64_t wanted = 0;
  for (std::uint64_t i = first; i < last; ++i) wanted += allocated_[i] ? 0 : 1;
  if (wanted != 0 && (allocated_count_ + wanted) * block_size_ > capacity_) {
    ++faults_hit_;
    return false;
  }
  for (std::uint64_t i = first; i < last; ++i) allocated_[i] = true;
  allocated_count_ += wanted;
  return true;
}

void SimulatedDisk::give_space_back(std::uint64_t at, std::uint64_t length) {
  const std::uint64_t last = std::min<std::uint64_t>((at + length) / block_size_, allocated_.size());
  for (std::uint64_t i = core::divide_up(at, block_size_); i < last; ++i) {
    if (allocated_[i]) --allocated_count_;
    allocated_[i] = false;
  }
}

// ---- reading

core::Awaitable<void> SimulatedDisk::read_at(core::FileOffset at, core::MutableBytes target) {
  int error = next_fault(Kind::read);
  engine_.note(at.value);
  auto job = [this, at, target, &error] {
    if (cut()) error = EIO;
    if (error == 0) read_now(at.value, target);
  };
  co_await core::run(engine_.io(), job);
  if (error != 0) core::fail_errno(error, "a read fails as ordered");
  if (engine_.random().chance(50)) {  // what was read is old by the time the reader hears of it
    auto delay = [] {};
    co_await core::run(engine_.io(), delay);
  }
}

void SimulatedDisk::read_now(std::uint64_t at, core::MutableBytes target) {
  const std::uint64_t end = std::min<std::uint64_t>(current_.size(), at + target.size());
  const std::size_t there = end > at ? end - at : 0;
  std::copy_n(current_.begin() + static_cast<std::ptrdiff_t>(at), there, target.begin());
  std::fill(target.begin() + static_cast<std::ptrdiff_t>(there), target.end(), std::byte{0});
  for (const auto& [operation, write] : in_flight_) {
    for (std::uint64_t sector = write.at; sector < write.end(); sector += sector_size_) {
      const std::uint64_t from = std::max(sector, at);
      const std::uint64_t to = std::min(sector + sector_size_, at + target.size());
      if (from >= to || engine_.random().chance(50)) continue;
      std::memcpy(target.data() + (from - at), write.bytes->data() + (from - write.at), to - from);
    }
  }
}

// ---- writing

core::Awaitable<void> SimulatedDisk::write_at(core::FileOffset at, std::span<const core::Bytes> pieces) {
  const std::uint64_t length = core::total_size(pieces);
  if (length == 0) co_return;
  if (told_failure_) breach("a write at " + std::to_string(at.value) + " is begun although one has failed");
  const int error = next_fault(Kind::write);
  engine_.note(at.value);
  engine_.note(length);
  require_within_device(at.value + length);
  asked_.push_back({at.value, length});
  const std::uint64_t first = core::align_down(at.value, block_size_);
  const std::uint64_t last = core::align_up(at.value + length, block_size_);
  const auto bytes = std::make_shared<Image>(last - first);
  if (first == at.value && last == at.value + length) {
    core::copy_pieces(pieces, bytes->data());
    co_await write_blocks(first, bytes, pieces, error);
    co_return;
  }
  // The edges are read, changed and written back, one such write at a time.
  const core::AsyncMutex::Guard alone = co_await unaligned_.lock();
  auto fetch = [this, first, bytes] { read_now(first, *bytes); };
  co_await core::run(engine_.io(), fetch);
  core::copy_pieces(pieces, bytes->data() + (at.value - first));
  co_await write_blocks(first, bytes, pieces, error);
}

core::Awaitable<void> SimulatedDisk::write_blocks(std::uint64_t at, std::shared_ptr<Image> bytes,
                                                  std::span<const core::Bytes> pieces, int error) {
  if (error == 0 && !take_space(at, bytes->size())) {
    ++writes_without_space_;
    error = ENOSPC;
  }
  const std::uint64_t hash = hash_pieces(pieces);
  const Write write{at, bytes};
  const std::uint64_t operation = submit_write(write);
  auto arrive = [this, operation, pieces, hash, at, &error] {
    if (cut()) error = EIO;
    if (hash_pieces(pieces) != hash) breach("memory changed while it was written at " + std::to_string(at));
    error == 0 ? complete_write(operation) : fail_write(operation);
  };
  co_await core::run(engine_.io(), arrive);
  if (error != 0) tell_failure(error, "a write fails as ordered");
}

// The least length that the file may have.
std::uint64_t SimulatedDisk::shortest() const {
  std::uint64_t length = durable_size_;
  for (const Resize& resize : resizes_) length = std::min(length, resize.value);
  return length;
}

std::uint64_t SimulatedDisk::submit_write(const Write& write) {
  for (const auto& [other, flying] : in_flight_) {
    if (flying.at < write.end() && write.at < flying.end()) {
      breach("writes in flight overlap at " + std::to_string(flying.at) + " and " + std::to_string(write.at));
    }
  }
  const std::uint64_t operation = completed_.size();
  completed_.push_back(never);
  ++clock_;
  in_flight_.emplace(operation, write);
  for (std::uint64_t offset = 0; offset < write.bytes->size(); offset += sector_size_) {
    versions_[(write.at + offset) / sector_size_].push_back({operation, write.bytes, offset});
  }
  if (write.end() > shortest()) resizes_.push_back({operation, write.end(), false});
  return operation;
}

void SimulatedDisk::complete_write(std::uint64_t operation) {
  const Write& write = in_flight_.at(operation);
  grow_to(current_, write.end());
  std::memcpy(current_.data() + write.at, write.bytes->data(), write.bytes->size());
  completed_[operation] = ++clock_;
  in_flight_.erase(operation);
}

// Each sector has arrived or has not: from now on the file says which.
void SimulatedDisk::fail_write(std::uint64_t operation) {
  const Write write = in_flight_.at(operation);
  in_flight_.erase(operation);
  completed_[operation] = ++clock_;
  const unsigned share = static_cast<unsigned>(engine_.random().below(3) * 50);
  std::uint64_t reached = 0;
  for (std::uint64_t offset = 0; offset < write.bytes->size(); offset += sector_size_) {
    const std::uint64_t sector = (write.at + offset) / sector_size_;
    if (engine_.random().chance(share)) {
      reached = write.at + offset + sector_size_;
      grow_to(current_, reached);
      std::memcpy(current_.data() + write.at + offset, write.bytes->data() + offset, sector_size_);
    } else {
      std::vector<Version>& versions = versions_[sector];
      std::erase_if(versions, [operation](const Version& version) { return version.operation == operation; });
      if (versions.empty()) versions_.erase(sector);
    }
  }
  std::erase_if(resizes_, [operation](const Resize& resize) { return resize.operation == operation; });
  if (reached > shortest()) resizes_.push_back({operation, reached, false});
}

// ---- what changes no bytes

void SimulatedDisk::tell_failure(int error, const std::string& sentence) {
  if (error != ENOSPC) told_failure_ = true;
  core::fail_errno(error, sentence);
}

core::Awaitable<void> SimulatedDisk::barrier() {
  if (told_failure_) breach("a barrier is begun although something has failed");
  int error = next_fault(Kind::barrier);
  const std::uint64_t submitted = ++clock_;
  auto job = [this, submitted, &error] {
    if (observer_) observer_();
    bool takes_effect = error == 0;
    if (takes_effect && cut()) {  // it may have been heard all the same
      error = EIO;
      takes_effect = engine_.random().chance(50);
    }
    if (takes_effect) apply_barrier(submitted);
  };
  co_await core::run(engine_.io(), job);
  if (error != 0) tell_failure(error, "a barrier fails as ordered");
}

bool SimulatedDisk::durable_by(std::uint64_t operation, std::uint64_t moment) const {
  return completed_[operation] < moment;
}

void SimulatedDisk::apply_barrier(std::uint64_t submitted) {
  asked_.clear();
  for (auto& [operation, hole] : holes_) {
    if (!durable_by(operation, submitted)) continue;
    for (std::uint64_t at = hole.at; at < hole.at + hole.length; at += sector_size_) {
      const auto found = versions_.find(at / sector_size_);
      const bool rewritten = found != versions_.end() && found->second.back().operation > operation;
      if (!rewritten && found != versions_.end()) versions_.erase(found);
      if (at + sector_size_ <= durable_.size()) std::memset(durable_.data() + at, 0, sector_size_);
    }
  }
  std::erase_if(holes_, [&](const auto& hole) { return durable_by(hole.first, submitted); });

  for (const Resize& resize : resizes_) {
    if (resize.sets && durable_by(resize.operation, submitted)) cut_off(resize);
  }
  for (auto entry = versions_.begin(); entry != versions_.end();) {
    auto& [sector, versions] = *entry;
    std::size_t newest = versions.size();
    while (newest > 0 && !durable_by(versions[newest - 1].operation, submitted)) --newest;
    if (newest > 0) {
      const Version& version = versions[newest - 1];
      grow_to(durable_, (sector + 1) * sector_size_);
      std::memcpy(durable_.data() + sector * sector_size_, version.bytes->data() + version.offset, sector_size_);
      versions.erase(versions.begin(), versions.begin() + static_cast<std::ptrdiff_t>(newest));
    }
    entry = versions.empty() ? versions_.erase(entry) : std::next(entry);
  }
  for (const Resize& resize : resizes_) {
    if (!durable_by(resize.operation, submitted)) continue;
    durable_size_ = resize.sets ? resize.value : std::max(durable_size_, resize.value);
  }
  std::erase_if(resizes_, [&](const Resize& resize) { return durable_by(resize.operation, submitted); });
}

// What was written beyond the new end before the file was cut is gone.
void SimulatedDisk::cut_off(const Resize& resize) {
  if (resize.value < durable_.size()) {
    std::fill(durable_.begin() + static_cast<std::ptrdiff_t>(resize.value), durable_.end(), std::byte{0});
  }
  for (auto entry = versions_.lower_bound(core::divide_up(resize.value, sector_size_)); entry != versions_.end();) {
    const auto older = [&resize](const Version& version) { return version.operation < resize.operation; };
    std::erase_if(entry->second, older);
    entry = entry->second.empty() ? versions_.erase(entry) : std::next(entry);
  }
}

core::Awaitable<void> SimulatedDisk::truncate(std::uint64_t size) {
  const int error = next_fault(Kind::truncate);
  require_within_device(size);
  if (device_) size = current_.size();
  const std::uint64_t operation = completed_.size();
  completed_.push_back(never);
  ++clock_;
  if (error == 0) resizes_.push_back({operation, size, true});
  auto job = [this, operation, size, error] {
    completed_[operation] = ++clock_;
    if (error == 0) current_.resize(size);
  };
  co_await core::run(engine_.io(), job);
  if (error != 0) core::fail_errno(error, "a truncate fails as ordered");
}

core::Awaitable<bool> SimulatedDisk::reserve(core::FileOffset at, std::uint64_t length) {
  const int error = next_fault(Kind::reserve);
  require_within_device(at.value + length);
  bool room = true;
  auto job = [this, at, length, error, &room] { room = error == 0 && take_space(at.value, length); };
  co_await core::run(engine_.io(), job);
  if (!room) core::fail_errno(error == 0 ? ENOSPC : error, "a reservation fails as ordered");
  co_return true;
}

core::Awaitable<bool> SimulatedDisk::punch(core::FileOffset at, std::uint64_t length) {
  const int error = next_fault(Kind::punch);
  // A hole has the whole sectors of its range; zeros are written to the rest by the file system, which is the same to
  // us as keeping it.
  const std::uint64_t first = core::align_up(at.value, sector_size_);
  const std::uint64_t last = std::max(first, core::align_down(at.value + length, sector_size_));
  const PendingState::Hole hole{first, last - first, completed_.size()};
  completed_.push_back(never);
  ++clock_;
  for (const auto& [operation, write] : in_flight_) {
    if (write.at < last && first < write.end())
      breach("a hole is punched under a write at " + std::to_string(write.at));
  }
  if (error == 0) holes_.emplace_back(hole.punched, hole);
  auto job = [this, hole, error] {
    completed_[hole.punched] = ++clock_;
    if (error != 0) return;
    const std::uint64_t end = std::min<std::uint64_t>(hole.at + hole.length, current_.size());
    if (hole.at < end) std::memset(current_.data() + hole.at, 0, end - hole.at);
    give_space_back(hole.at, hole.length);
  };
  co_await core::run(engine_.io(), job);
  if (error != 0) core::fail_errno(error, "punching fails as ordered");
  co_return true;
}

// ---- what a power cut leaves open

PendingState SimulatedDisk::pending() {
  PendingState state;
  state.durable = &durable_;
  state.sector_size = sector_size_;
  state.writes = asked_;
  std::uint64_t all = durable_size_;
  std::set<std::uint64_t> between;
  for (const Resize& resize : resizes_) {
    between.insert(resize.sets ? resize.value : std::max(durable_size_, resize.value));
    all = resize.sets ? resize.value : std::max(all, resize.value);
  }
  between.erase(durable_size_);
  between.erase(all);
  state.sizes.push_back(durable_size_);
  state.sizes.insert(state.sizes.end(), between.begin(), between.end());
  if (all != durable_size_) state.sizes.push_back(all);  // the last one is that of all operations together
  std::uint64_t furthest = *std::max_element(state.sizes.begin(), state.sizes.end());
  if (!versions_.empty()) furthest = std::max(furthest, (versions_.rbegin()->first + 1) * sector_size_);
  grow_to(durable_, furthest);

  for (const auto& [sector, versions] : versions_) {
    PendingState::Sector pending;
    pending.at = sector * sector_size_;
    const std::byte* before = durable_.data() + pending.at;
    for (const Version& version : versions) {
      const std::byte* bytes = version.bytes->data() + version.offset;
      if (holes_.empty() && std::memcmp(before, bytes, sector_size_) == 0) continue;
      pending.versions.push_back(bytes);
      pending.written.push_back(version.operation);
      before = bytes;
    }
    if (!pending.versions.empty()) state.sectors.push_back(std::move(pending));
  }
  for (const auto& [operation, hole] : holes_) state.holes.push_back(hole);
  return state;
}

}  // namespace crash
