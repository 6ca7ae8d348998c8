// Compressed fragments gathered by host cluster, readable at once, written by large aligned writes.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// A cluster is a piece of the file as long as `cluster_size`. One that is full or ended is written as soon as
/// `gather_bytes` of them wait, or half the cache is in use: few large writes cost the workers far less than many of
/// a cluster each. An unfinished one is written only by flush() or when its memory is needed. Every write to the file
/// is of whole blocks, what a block lacks being zeros. When the lacking bytes come later, they meet the others in
/// memory, never by a read from the disk: so the partial blocks of an unfinished cluster stay in memory, usually one,
/// beyond the limit on clusters.
///
/// Units      Offsets and lengths are bytes of any alignment. `cluster_size` is a power of two from
///            block_size() on.
/// Ownership  write() copies before it completes; read() borrows its target until it completes. `engine` and
///            `file` must outlive the cache. stop() must be awaited before destruction, even if it throws.
/// Errors     Throws core::Error. After one failed write to the file every later write(), flush() and stop()
///            throws the error of that write, and so do those that wait. What was written before still reads
///            back.
/// Ordering   Bytes are readable when write() completes, and in the file when a flush() that started after
///            that has completed; a barrier is the caller's. Each byte is written at most once until its
///            cluster is full or ended and then discarded. Each must in the end be written, skipped or cut
///            off by the cluster's end, in any order: else the cluster never counts as full, and a few words
///            and its partial blocks stay in memory.
/// Threads    The engine's executor; every wait is a suspension.     Cancel  Not cancellable.
class CompressedWriteCache {
 public:
  /// `size_bytes` is for clusters that hold bytes not yet in the file; there is always room for one.
  CompressedWriteCache(core::Engine& engine, core::BlockFile& file, std::uint64_t cluster_size,
                       std::uint64_t size_bytes, std::uint64_t gather_bytes);
  CompressedWriteCache(const CompressedWriteCache&) = delete;
  CompressedWriteCache& operator=(const CompressedWriteCache&) = delete;
  ~CompressedWriteCache();

  /// At most a cluster; where it crosses a border it becomes two extents. Waits, first come, first served,
  /// while the cache is full and the cluster holds nothing yet, and while the block that it shares is on its
  /// way to the file.
  core::Awaitable<void> write(HostOffset at, core::SharedBytes bytes);
  /// [from, to), whole blocks of one cluster that holds nothing that is wanted, will be written; what else that cluster
  /// has is as it was, or nothing where the cache does not know it.
  void reopen(HostOffset from, HostOffset to);
  /// Nothing will be written at or past `end` in the cluster that holds the byte before it: it may go.
  void set_cluster_end(HostOffset end);
  /// Nothing will be written in [from, to): the owner's cursor jumps over it to a fresh block.
  void skip_to(HostOffset from, HostOffset to);
  /// Copies what the cache holds before it first suspends, reads the rest from the file if there is any.
  core::Awaitable<void> read(HostOffset at, core::MutableBytes target);
  /// All of it, so that read() does not touch the file.
  bool holds(HostOffset at, std::uint64_t length) const;
  /// Brings to the file what was written before the call; does not wait for what is written after it.
  core::Awaitable<void> flush();
  /// Drops the bytes of the cluster that holds byte `at`, its last reference being gone. What is on its way
  /// to the file is waited for, the rest never written. The owner of one that is not ended may go on in it
  /// behind its cursor.
  core::Awaitable<void> discard(HostOffset at);
  /// Flushes; from then on write() goes straight to the file.
  core::Awaitable<void> stop();

  /// Takes effect at once for growth; what is over a smaller limit is written cluster by cluster.
  void set_size(std::uint64_t size_bytes);
  std::uint64_t active_clusters() const { return active_.size(); }   ///< holding bytes not yet in the file
  std::uint64_t known_clusters() const { return clusters_.size(); }  ///< these and the unfinished ones

 private:
  struct Cluster;
  struct Extent;
  struct Flight;
  class Urgency;
  struct Missing {
    HostOffset at;
    core::MutableBytes target;
  };

  std::uint64_t index_of(HostOffset at) const { return at.value / cluster_size_; }
  std::uint64_t within(HostOffset at) const { return at.value & (cluster_size_ - 1); }
  Cluster* find(std::uint64_t index) const;
  Cluster& find_or_create(std::uint64_t index);

  core::Awaitable<void> write_extent(HostOffset at, core::Bytes bytes);
  core::Awaitable<void> write_through(HostOffset at, core::Bytes bytes);
  core::Awaitable<void> enter(std::uint64_t index);
  void send_or_forget(Cluster& cluster);
  std::vector<Missing> copy_present(HostOffset at, core::MutableBytes target) const;
  void want(Cluster& cluster);
  void wait_for_a_flight(const Cluster& cluster);
  void pump();
  bool needs_room() const {
    return active_.size() > clusters_max_ || (room_wanted_ && active_.size() == clusters_max_);
  }
  bool worth_a_flight() const;
  Flight gather(Cluster& cluster);
  void board(Cluster& cluster, Flight& flight);
  core::Awaitable<void> fly(Flight flight);
  void land(const Flight& flight, bool arrived);
  void wake_waiters();
  void throw_if_failed() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  core::Engine& engine_;
  core::BlockFile& file_;
  const std::uint64_t cluster_size_;
  const std::uint64_t block_size_;
  const std::uint64_t gather_clusters_;
  std::uint64_t clusters_max_ = 1;

  std::unordered_map<std::uint64_t, std::unique_ptr<Cluster>> clusters_;
  std::list<Cluster*> active_;          ///< those that own a cluster's memory, oldest first
  std::deque<std::uint64_t> ready_;     ///< to be written, where the cluster still is `ready`
  std::uint64_t waiting_clusters_ = 0;  ///< those in ready_ that still are
  std::size_t flights_ = 0;
  std::size_t flushes_ = 0;   ///< under way: nothing waits for company
  std::uint64_t writes_ = 0;  ///< counts them, so that flush() can tell earlier from later

  core::AsyncMutex door_;  ///< held by the one writer that waits for room, or is about to take it
  core::WaitList room_;    ///< that writer
  bool room_wanted_ = false;
  core::WaitList landed_;  ///< everybody who waits for a flight to end
  core::WaitList stopped_wait_;
  bool stopping_ = false;
  bool stopped_ = false;
  std::exception_ptr failure_;  ///< sticky
};

}  // namespace qcow2
