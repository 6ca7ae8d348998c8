// Why the order is what it is. The disk may keep any subset of what was written since the last completed barrier.
//
//   I1  A table entry may become durable only when its data, its refcounts and the file's length are.
//   I2  A refcount falls only after the unlink is durable.
//   I3  Freed bytes are not rewritten before the unlink is durable and every reader that could see them is gone.
//   I4  A refcount block before the table entry that names it (Refcounts::grow), an L2 table before its L1 entry.
//   I5  Space that the cursor of the open cluster still points into is nobody else's (FragmentAllocator).
#include "qcow2/flow/commit.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>

#include "qcow2/limits.h"

namespace qcow2 {

core::Awaitable<void> Commit::make_durable() {
  co_await rooms_.placer.seal();
  // From here to the cache's flush nothing suspends: the batch is exactly what the flush brings to the file.
  adopt_superseded();
  const bool names_new_space = rooms_.map.open_changes().names_new_space;
  rooms_.map.freeze();
  ++open_batch_;
  stored_at_freeze_ = rooms_.placer.stored_bytes();

  // The data reach the file. So do those that were discarded before they were ever named: their space is free once this
  // batch is durable, and nothing may still be on its way there.
  co_await rooms_.cache.flush();
  if (names_new_space) {
    co_await rooms_.map.write_new_tables();   // tables that nobody names yet,
    co_await rooms_.refcounts.write_dirty();  // and the counts that protect both.
    co_await rooms_.file.barrier();
  }
  // ---- All of it is durable: below this line it may be named (I1, I4).
  co_await rooms_.map.write_names();
  co_await rooms_.file.barrier();
  // ---- The names are durable: below this line what they named before may be given up (I2, I3).
}

void Commit::adopt_superseded() {
  for (const HostClusters& outgrown : rooms_.refcounts.take_superseded()) rooms_.map.lose(outgrown);
}

core::Awaitable<void> Commit::run_batch() {
  std::vector<HostClusters> lost;
  try {
    rooms_.failure.check();
    co_await make_durable();
    lost = rooms_.map.settle();
    durable_batch_ = open_batch_ - 1;
  } catch (const std::exception& error) {
    record(error);
  }
  running_ = false;
  progress_.wake_all();
  if (lost.empty()) co_return;
  // Neither who waits for durability nor the next batch waits for the readers of this one's old space.
  ++reclaiming_;
  boost::asio::co_spawn(engine_.executor(), reclaim(std::move(lost)), core::Supervised{"reclaim"});
}

core::Awaitable<void> Commit::reclaim(std::vector<HostClusters> lost) {
  try {
    co_await rooms_.readers.drain();
    std::vector<HostCluster> freed;
    for (const HostClusters& clusters : lost) co_await rooms_.refcounts.drop(clusters, freed);
    for (const HostCluster cluster : freed) {
      const HostExtent space{geometry_.start_of(cluster), geometry_.cluster_size()};
      rooms_.reader.forget(space);
      rooms_.clusters.freed(cluster);
    }
  } catch (const std::exception& error) {
    record(error);
  }
  --reclaiming_;
  progress_.wake_all();
}

core::Awaitable<void> Commit::flush() {
  co_await rooms_.assembler.drain();
  const std::uint64_t wanted = rooms_.map.open_changes().empty() ? open_batch_ - 1 : open_batch_;
  while (durable_batch_ < wanted) {
    rooms_.failure.check();
    if (running_) {
      co_await progress_.wait();
    } else {
      running_ = true;
      co_await run_batch();
    }
  }
  rooms_.failure.check();
}

core::Awaitable<void> Commit::wait_until_idle() {
  while (running_ || reclaiming_ != 0) co_await progress_.wait();
  rooms_.failure.check();
}

core::Awaitable<void> Commit::finish() {
  co_await flush();
  co_await wait_until_idle();
  adopt_superseded();
  while (pending()) {
    co_await flush();
    co_await wait_until_idle();
    try {
      co_await rooms_.refcounts.write_dirty();
      co_await rooms_.file.barrier();
    } catch (const std::exception& error) {
      record(error);
    }
    rooms_.failure.check();
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
  return !rooms_.map.open_changes().empty() || rooms_.refcounts.dirty() || !rooms_.assembler.empty();
}

bool Commit::exceeds(std::uint64_t factor) const {
  const MapChanges& changes = rooms_.map.open_changes();
  return changes.slices.size() > factor * limits::changed_slices_max ||
         changes.lost.size() > factor * limits::batch_lost_references_max ||
         rooms_.placer.stored_bytes() - stored_at_freeze_ > factor * limits::batch_stored_bytes_max;
}

void Commit::record(const std::exception& error) {
  if (!rooms_.failure.failed()) spdlog::error("writing failed, nothing more is accepted: {}", core::describe(error));
  rooms_.failure.record(error);
  rooms_.assembler.wake_all();
  progress_.wake_all();
}

}  // namespace qcow2
