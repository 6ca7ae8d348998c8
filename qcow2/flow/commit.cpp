// Why the order is what it is. The disk may keep any subset of what was written since the last completed barrier.
//
//   I1  A table entry may become durable only when its data, its refcounts and the file's length are.
//   I2  A refcount falls only after the unlink is durable.
//   I3  Freed bytes are not rewritten before the unlink is durable and every reader that could see them is gone.
//   I4  A refcount block before the table entry that names it (Refcounts::grow), an L2 table before its L1 entry.
//   I5  Space that the cursor of the open cluster still points into is nobody else's (FragmentAllocator).
#include "qcow2/flow/commit.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>

#include "qcow2/limits.h"

namespace qcow2 {

// One step ends with one barrier. It takes the names of the staged batch and all that the next batch's names rely on to
// the file, side by side: so a batch that comes alone costs two barriers, one that follows another costs one more.
core::Awaitable<void> Commit::step() {
  core::TaskGroup writes(engine_.executor());
  settles_ = std::exchange(staged_, false);
  if (settles_) {
    // All that its names rely on is durable (I1, I4).
    rooms_.map.begin_naming();
    writes.spawn(rooms_.map.write_names());
  }
  if (requested_batch_ >= open_batch_) writes.spawn(stage(!settles_));
  co_await writes.join();
  co_await rooms_.file.barrier();
  if (settles_) settle();
}

core::Awaitable<void> Commit::stage(bool alone) {
  co_await rooms_.placer.seal();
  const bool names_new_space = freeze();
  // The data reach the file. So do those that were discarded before they were ever named: their space is free once this
  // batch is durable, and nothing may still be on its way there.
  co_await rooms_.cache.flush();
  if (names_new_space || !alone) {
    co_await rooms_.map.write_new_tables();   // tables that nobody names yet,
    co_await rooms_.refcounts.write_dirty();  // and the counts that protect both.
    staged_ = true;
    co_return;
  }
  // Names that rely on nothing new need not wait for a barrier.
  settles_ = true;
  rooms_.map.begin_naming();
  co_await rooms_.map.write_names();
}

// Never suspends, so the batch is exactly what the cache's flush brings to the file. True where it names new space.
bool Commit::freeze() {
  adopt_superseded();
  const bool names_new_space = rooms_.map.open_changes().names_new_space;
  rooms_.placer.take_overwritten();
  rooms_.map.freeze();
  last_froze_ = engine_.now();
  ++open_batch_;
  stored_at_freeze_ = rooms_.placer.stored_bytes();
  return names_new_space;
}

void Commit::adopt_superseded() {
  for (const HostClusters& outgrown : rooms_.refcounts.take_superseded()) rooms_.map.lose(outgrown);
}

// The names are durable: what they named before may be given up (I2, I3).
void Commit::settle() {
  Lost lost = rooms_.map.settle();
  durable_batch_ = open_batch_ - (staged_ ? 2 : 1);
  progress_.wake_all();
  if (lost.empty()) return;
  // Neither who waits for durability nor the next batch waits for the readers of this one's old space.
  ++reclaiming_;
  boost::asio::co_spawn(engine_.executor(), reclaim(std::move(lost)), core::Supervised{"reclaim"});
}

core::Awaitable<void> Commit::run() {
  try {
    while (!rooms_.failure.failed() && (staged_ || requested_batch_ >= open_batch_)) co_await step();
  } catch (const std::exception& error) {
    rooms_.failure.record(error);
  }
  running_ = false;
  progress_.wake_all();
}

core::Awaitable<void> Commit::reclaim(Lost lost) {
  try {
    co_await rooms_.readers.drain();
    for (const HostExtent& fragment : lost.fragments) {
      rooms_.reader.forget(fragment);
      rooms_.block_use.remove(fragment);
    }
    const auto freed = [this](HostCluster cluster) {
      const HostExtent space{geometry_.start_of(cluster), geometry_.cluster_size()};
      rooms_.reader.forget(space);
      rooms_.block_use.freed(cluster);
      rooms_.clusters.freed(cluster);
    };
    for (const HostClusters& clusters : lost.clusters) co_await rooms_.refcounts.drop(clusters, freed);
  } catch (const std::exception& error) {
    rooms_.failure.record(error);
  }
  --reclaiming_;
  progress_.wake_all();
}

core::Awaitable<void> Commit::flush() {
  co_await rooms_.file.retry();
  std::exception_ptr incomplete;
  try {
    co_await rooms_.assembler.drain();
  } catch (...) {
    incomplete = std::current_exception();
  }
  rooms_.failure.check();
  co_await publish();
  if (incomplete) std::rethrow_exception(incomplete);
}

core::Awaitable<void> Commit::publish() {
  const bool changed = !rooms_.map.open_changes().empty() || rooms_.placer.overwritten();
  co_await make_durable_to(changed ? open_batch_ : open_batch_ - 1);
}

core::Awaitable<void> Commit::make_durable_to(std::uint64_t batch) {
  requested_batch_ = std::max(requested_batch_, batch);
  while (durable_batch_ < batch) {
    rooms_.failure.check();
    if (!running_) {
      running_ = true;
      boost::asio::co_spawn(engine_.executor(), run(), core::Supervised{"commits"});
    }
    co_await progress_.wait();
  }
  rooms_.failure.check_failed();
}

core::Awaitable<void> Commit::wait_until_idle() {
  while (running_ || reclaiming_ != 0) {
    rooms_.failure.check();
    co_await progress_.wait();
  }
  rooms_.failure.check();
}

core::Awaitable<void> Commit::join() {
  while (running_ || reclaiming_ != 0) co_await progress_.wait();
}

core::Awaitable<void> Commit::finish() {
  co_await flush();
  co_await wait_until_idle();
  adopt_superseded();
  while (pending()) {
    co_await flush();
    co_await wait_until_idle();
    co_await rooms_.refcounts.write_dirty();
    co_await rooms_.file.barrier();
    adopt_superseded();
  }
}

core::Awaitable<void> Commit::wait_for_room() {
  while (exceeds(2)) {
    rooms_.failure.check();
    engine_.wake_sleepers();  // the keeper commits large batches
    co_await progress_.wait();
  }
  if (exceeds(1)) engine_.wake_sleepers();
}

bool Commit::pending() const {
  return !rooms_.map.open_changes().empty() || rooms_.placer.overwritten() || rooms_.refcounts.dirty() ||
         !rooms_.assembler.empty();
}

// Three batches may be under way, and their space is not free yet: together they shall be little beside the image.
std::uint64_t Commit::lost_bytes_max() const {
  return std::clamp(rooms_.file.size() / 32, limits::batch_lost_bytes_min, limits::batch_lost_bytes_max);
}

bool Commit::exceeds(std::uint64_t factor) const {
  const MapChanges& changes = rooms_.map.open_changes();
  return changes.slices.size() > factor * limits::changed_slices_max ||
         changes.lost.clusters.size() > factor * limits::batch_lost_references_max ||
         (changes.lost.bytes > factor * limits::batch_lost_bytes_min &&
          changes.lost.bytes > factor * lost_bytes_max()) ||
         rooms_.placer.stored_bytes() - stored_at_freeze_ > factor * limits::batch_stored_bytes_max;
}

}  // namespace qcow2
