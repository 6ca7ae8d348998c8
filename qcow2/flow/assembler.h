// Gathers guest writes into whole clusters, so that neighbouring small writes cost one compression.
//
// A guest cluster with dirty bytes has up to two layers here: one being gathered, and below it one that was sealed and
// is being encoded. Reads ask the upper one first; the upper one is sealed only after the lower one has its place in
// the map.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"
#include "core/fail_stop.h"
#include "qcow2/flow/dirty_bytes.h"
#include "qcow2/format/geometry.h"

namespace qcow2 {

/// A cluster on its way to the encoder. Its bytes no longer change.
struct SealedCluster {
  GuestCluster guest;
  DirtyBytes bytes;  ///< what is not known comes from what was there before
  std::uint64_t born = 0;
  std::uint64_t charge = 0;  ///< of memory, bookkeeping included
  bool superseded = false;   ///< the guest discarded the cluster meanwhile: it must not reach the map
};

/// Units      Ranges are bytes within one guest cluster.
/// Ordering   write(), write_zeros() and forget() take effect at once and never suspend.
/// Threads    The engine's strand.
class Assembler {
 public:
  Assembler(core::Engine& engine, core::FailStop& failure, const Geometry& geometry, std::uint64_t dirty_bytes_max);

  /// Suspends while too much is dirty. Throws the sticky failure, ENOSPC while the host is short of space, or why
  /// clusters were put back that leave no room.
  core::Awaitable<void> wait_for_room();
  void write(GuestCluster cluster, std::uint64_t within, core::SharedBytes bytes);
  void write_zeros(GuestCluster cluster, ByteRange range);
  /// Drops all that is dirty of the cluster: the guest has discarded it.
  void forget(GuestCluster cluster);

  bool holds(GuestCluster cluster) const { return dirty_.contains(cluster); }
  /// An upper bound, for reserving space: layers that have no place in the map yet.
  std::uint64_t dirty_clusters() const { return outstanding_.size(); }
  /// Memory held for them.
  std::uint64_t dirty_bytes() const { return dirty_bytes_; }
  /// The first dirty cluster from `cluster` on, or `end` where there is none before it.
  GuestCluster next_held(GuestCluster cluster, GuestCluster end) const {
    const auto next = dirty_.lower_bound(cluster);
    return next == dirty_.end() || next->first > end ? end : next->first;
  }
  /// What is over a smaller limit leaves as more is written, or is waited for.
  void set_dirty_bytes_max(std::uint64_t bytes);
  bool empty() const { return outstanding_.empty(); }
  /// When the oldest dirty byte came, if there is any.
  std::optional<std::chrono::steady_clock::time_point> oldest() const;
  /// Copies what is known of `range` to `target` (which is as long); returns what is not, in order.
  std::vector<ByteRange> copy_known(GuestCluster cluster, ByteRange range, core::MutableBytes target) const;

  /// Seals all that is dirty now and waits until it has its place in the map. Throws the sticky failure, ENOSPC while
  /// the host is short of space, or why a cluster was put back meanwhile.
  core::Awaitable<void> drain();
  /// Why some dirty cluster cannot be completed, or none.
  core::ErrorCode hindrance() const;

  /// For the encoder: sealed clusters, up to `bytes_max` of them, but not more than one of `takers` should have of what
  /// waits; none at all once close() was called.
  core::Awaitable<std::vector<std::shared_ptr<SealedCluster>>> take(std::uint64_t bytes_max, std::size_t takers);
  /// The cluster is in the map (or superseded): what was dirty of it no longer is.
  void placed(const std::shared_ptr<SealedCluster>& sealed);
  /// The rest of the cluster could not be read: its dirty bytes stay, and the next drain() tries again. It is complete
  /// as soon as the guest has written all of it.
  void put_back(const std::shared_ptr<SealedCluster>& sealed, const std::exception& error);
  /// The failure or the shortage of space is another one than before: whoever waits must look again.
  void wake_all();
  void close();

 private:
  struct Gathering {
    DirtyBytes bytes;
    std::chrono::steady_clock::time_point since;
    std::uint64_t born = 0;
    std::uint64_t charge = 0;
    bool seal_wanted = false;  ///< as soon as the layer below has its place
  };
  struct Hindrance {
    core::ErrorCode code;
    std::string sentence;
    std::uint64_t number = 0;  ///< counts them, so that drain() can tell earlier from later
  };
  struct Dirty {
    std::optional<Gathering> gathering;
    std::shared_ptr<SealedCluster> sealed;
  };

  Gathering& gathering_for(GuestCluster cluster);
  void wrote(GuestCluster cluster, Gathering& gathering);
  void charge(Gathering& gathering);
  void seal(GuestCluster cluster);
  void seal_older_than(std::uint64_t born);
  void relieve_pressure();
  void drop_gathering(Dirty& dirty);
  void finish(std::uint64_t born, std::uint64_t charge);
  bool all_placed_or_put_back(std::uint64_t until, std::uint64_t since) const;

  core::Engine& engine_;
  core::FailStop& failure_;
  Geometry geometry_;
  std::uint64_t dirty_bytes_max_;
  std::uint64_t gathering_bytes_max_;
  std::uint64_t gathering_clusters_max_;
  std::uint64_t dirty_bytes_ = 0;      ///< the charges of all layers
  std::uint64_t gathering_bytes_ = 0;  ///< of those being gathered
  std::uint64_t next_born_ = 1;
  std::map<GuestCluster, Dirty> dirty_;
  std::map<std::uint64_t, GuestCluster> gathering_by_age_;
  std::set<std::uint64_t> outstanding_;            ///< births of all layers that have no place in the map yet
  std::map<std::uint64_t, Hindrance> hindrances_;  ///< of gathering layers that were put back, by birth
  std::uint64_t hindrances_seen_ = 0;
  std::deque<std::shared_ptr<SealedCluster>> sealed_;
  bool closed_ = false;
  core::WaitList work_;
  core::WaitList room_;
  core::WaitList drained_;
};

}  // namespace qcow2
