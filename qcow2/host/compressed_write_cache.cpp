#include "qcow2/host/compressed_write_cache.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <deque>
#include <utility>

#include "core/alignment.h"
#include "core/check.h"
#include "qcow2/host/cached_cluster.h"
#include "qcow2/limits.h"

namespace qcow2 {

using Range = RangeSet::Range;

struct CompressedWriteCache::Cluster final : CachedCluster {
  using CachedCluster::CachedCluster;
  bool ready = false;                             // goes to the file as soon as it may
  std::list<Cluster*>::iterator place_in_active;  // of one that is active
};

// Adjacent bytes of the file, in pieces.
struct CompressedWriteCache::Extent {
  HostOffset at;
  std::uint64_t length = 0;
  std::vector<core::Bytes> pieces;
};

// While one exists, nothing waits for company on its way to the file.
class CompressedWriteCache::Urgency {
 public:
  explicit Urgency(CompressedWriteCache& cache) : cache_(cache) { ++cache_.flushes_; }
  Urgency(const Urgency&) = delete;
  Urgency& operator=(const Urgency&) = delete;
  ~Urgency() { --cache_.flushes_; }

 private:
  CompressedWriteCache& cache_;
};

struct CompressedWriteCache::Flight {
  std::vector<std::uint64_t> clusters;
  std::vector<Extent> extents;
};

CompressedWriteCache::CompressedWriteCache(core::Engine& engine, core::BlockFile& file, std::uint64_t cluster_size,
                                           std::uint64_t size_bytes, std::uint64_t gather_bytes)
    : engine_(engine),
      file_(file),
      cluster_size_(cluster_size),
      block_size_(file.block_size()),
      gather_clusters_(gather_bytes / cluster_size) {
  CHECK(core::is_power_of_two(cluster_size) && core::is_power_of_two(block_size_) && cluster_size >= block_size_);
  set_size(size_bytes);
}

CompressedWriteCache::~CompressedWriteCache() { CHECK(flights_ == 0); }

CompressedWriteCache::Cluster* CompressedWriteCache::find(std::uint64_t index) const {
  const auto found = clusters_.find(index);
  return found == clusters_.end() ? nullptr : found->second.get();
}

CompressedWriteCache::Cluster& CompressedWriteCache::find_or_create(std::uint64_t index) {
  std::unique_ptr<Cluster>& slot = clusters_[index];
  if (!slot) slot = std::make_unique<Cluster>(index, cluster_size_, block_size_);
  return *slot;
}

// ---- writing

core::Awaitable<void> CompressedWriteCache::write(HostOffset at, core::SharedBytes bytes) {
  CHECK(bytes.size() <= cluster_size_);
  const std::size_t head_size = std::min<std::uint64_t>(bytes.size(), cluster_size_ - within(at));
  const core::Bytes head = bytes.bytes.first(head_size);
  const core::Bytes tail = bytes.bytes.subspan(head_size);
  const HostOffset border = at + head_size;
  if (!head.empty()) co_await write_extent(at, head);
  if (!tail.empty()) co_await write_extent(border, tail);
}

core::Awaitable<void> CompressedWriteCache::write_extent(HostOffset at, core::Bytes bytes) {
  const std::uint64_t index = index_of(at);
  const Range target{within(at), within(at) + bytes.size()};
  for (;;) {
    throw_if_failed();
    if (stopping_) {
      co_await write_through(at, bytes);
      co_return;
    }
    Cluster* const cluster = find(index);
    if (cluster != nullptr && cluster->in_flight_beside(target)) {
      co_await landed_.wait();
    } else if (cluster != nullptr && cluster->active()) {
      cluster->place(target.begin, bytes, ++writes_);
      send_or_forget(*cluster);
      co_return;
    } else {
      co_await enter(index);
    }
  }
}

core::Awaitable<void> CompressedWriteCache::write_through(HostOffset at, core::Bytes bytes) {
  while (!stopped_) co_await stopped_wait_.wait();
  throw_if_failed();
  try {
    co_await file_.write_at(at, bytes);
  } catch (...) {
    if (!failure_) failure_ = std::current_exception();
    throw;
  }
}

// Makes the cluster active as soon as there is room, unless a failure or stop() forestalls it. Nobody runs
// between this and the caller's next step.
core::Awaitable<void> CompressedWriteCache::enter(std::uint64_t index) {
  const core::AsyncMutex::Guard door = co_await door_.lock();
  for (;;) {
    if (failure_ || stopping_) co_return;
    const Cluster* const cluster = find(index);
    if (cluster != nullptr && cluster->active()) co_return;
    if (active_.size() < clusters_max_) break;
    room_wanted_ = true;
    pump();
    co_await room_.wait();
    room_wanted_ = false;
  }
  Cluster& cluster = find_or_create(index);
  cluster.activate();
  cluster.place_in_active = active_.insert(active_.end(), &cluster);
}

// ---- what will not be written

void CompressedWriteCache::reopen(HostOffset from, HostOffset to) {
  if (stopping_) return;
  const bool known = find(index_of(from)) != nullptr;
  Cluster& cluster = find_or_create(index_of(from));
  if (!known) cluster.settle({0, cluster_size_});
  cluster.reopen({within(from), within(from) + (to - from)});
}

void CompressedWriteCache::set_cluster_end(HostOffset end) {
  CHECK(end.value > 0);
  if (stopping_) return;
  const std::uint64_t index = index_of({end.value - 1});
  const std::uint64_t end_within = end.value - index * cluster_size_;
  if (end_within == cluster_size_ && find(index) == nullptr) return;  // it was full, and has left
  Cluster& cluster = find_or_create(index);
  cluster.end_at(end_within);
  send_or_forget(cluster);
}

void CompressedWriteCache::skip_to(HostOffset from, HostOffset to) {
  while (!stopping_ && from < to) {
    const std::uint64_t length = std::min(to - from, cluster_size_ - within(from));
    Cluster& cluster = find_or_create(index_of(from));
    cluster.settle({within(from), within(from) + length});
    send_or_forget(cluster);
    from = from + length;
  }
}

void CompressedWriteCache::send_or_forget(Cluster& cluster) {
  if (cluster.due()) {
    want(cluster);
    pump();
  } else if (!cluster.active() && cluster.finished()) {
    clusters_.erase(cluster.index());
  }
}

core::Awaitable<void> CompressedWriteCache::discard(HostOffset at) {
  const std::uint64_t index = index_of(at);
  for (;;) {
    Cluster* const cluster = find(index);
    if (cluster == nullptr) co_return;
    if (!cluster->in_flight()) break;
    co_await landed_.wait();
  }
  Cluster& cluster = *find(index);
  if (cluster.active()) active_.erase(cluster.place_in_active);
  cluster.drop_bytes();
  if (cluster.ready) --waiting_clusters_;
  cluster.ready = false;
  if (cluster.ended() || cluster.finished()) clusters_.erase(index);
  wake_waiters();
}

// ---- reading

core::Awaitable<void> CompressedWriteCache::read(HostOffset at, core::MutableBytes target) {
  const std::vector<Missing> missing = copy_present(at, target);
  for (const Missing& part : missing) co_await file_.read_at(part.at, part.target);
}

std::vector<CompressedWriteCache::Missing> CompressedWriteCache::copy_present(HostOffset at,
                                                                              core::MutableBytes target) const {
  std::vector<Missing> missing;
  const auto miss = [&missing](HostOffset from, core::MutableBytes part) {
    if (!missing.empty() && missing.back().at + missing.back().target.size() == from) {
      Missing& before = missing.back();
      before.target = {before.target.data(), before.target.size() + part.size()};
    } else {
      missing.push_back({from, part});
    }
  };
  for (std::size_t done = 0; done < target.size();) {
    const HostOffset from = at + done;
    const std::size_t length = std::min<std::uint64_t>(target.size() - done, cluster_size_ - within(from));
    const core::MutableBytes part = target.subspan(done, length);
    const Range window{within(from), within(from) + length};
    done += length;
    const Cluster* const cluster = find(index_of(from));
    if (cluster == nullptr) {
      miss(from, part);
      continue;
    }
    for (const Range& here : cluster->present(window)) {
      const core::Bytes source = cluster->memory(here);
      std::copy(source.begin(), source.end(), part.begin() + static_cast<std::ptrdiff_t>(here.begin - window.begin));
    }
    for (const Range& gap : cluster->absent(window)) {
      miss(from + (gap.begin - window.begin), part.subspan(gap.begin - window.begin, gap.length()));
    }
  }
  return missing;
}

bool CompressedWriteCache::holds(HostOffset at, std::uint64_t length) const {
  while (length > 0) {
    const std::uint64_t here = std::min(length, cluster_size_ - within(at));
    const Cluster* const cluster = find(index_of(at));
    if (cluster == nullptr || !cluster->absent({within(at), within(at) + here}).empty()) return false;
    at = at + here;
    length -= here;
  }
  return true;
}

// ---- on the way to the file

void CompressedWriteCache::want(Cluster& cluster) {
  if (cluster.ready) return;
  cluster.ready = true;
  if (!cluster.in_flight()) wait_for_a_flight(cluster);  // else land() does
}

void CompressedWriteCache::wait_for_a_flight(const Cluster& cluster) {
  ready_.push_back(cluster.index());
  ++waiting_clusters_;
}

bool CompressedWriteCache::worth_a_flight() const {
  return flushes_ != 0 || stopping_ || room_wanted_ || waiting_clusters_ >= gather_clusters_ ||
         active_.size() * 2 > clusters_max_;
}

void CompressedWriteCache::pump() {
  while (!failure_ && flights_ < file_.depth() && worth_a_flight()) {
    if (ready_.empty()) {
      // Nothing will make room by itself: the oldest cluster must go as it is. With nothing in flight, every
      // active cluster holds something unwritten.
      if (flights_ != 0 || !needs_room()) return;
      want(*active_.front());
    }
    Cluster* const cluster = find(ready_.front());
    ready_.pop_front();
    if (cluster == nullptr || !cluster->ready || cluster->in_flight()) continue;
    Flight flight = gather(*cluster);
    ++flights_;
    boost::asio::co_spawn(engine_.executor(), fly(std::move(flight)), core::Supervised{"compressed write cache"});
  }
}

// Takes along the neighbours that are ready too, as long as all of it is one write.
CompressedWriteCache::Flight CompressedWriteCache::gather(Cluster& cluster) {
  const auto boardable = [](const Cluster* neighbour) {
    return neighbour != nullptr && neighbour->ready && !neighbour->in_flight();
  };
  const std::uint64_t row_max = std::max<std::uint64_t>(1, limits::write_bytes_max / cluster_size_);
  std::deque<Cluster*> row{&cluster};
  while (row.size() < row_max && row.front()->index() > 0) {
    Cluster* const left = find(row.front()->index() - 1);
    if (!boardable(left) || !left->adjoins(*row.front())) break;
    row.push_front(left);
  }
  while (row.size() < row_max) {
    Cluster* const right = find(row.back()->index() + 1);
    if (!boardable(right) || !row.back()->adjoins(*right)) break;
    row.push_back(right);
  }
  Flight flight;
  for (Cluster* const each : row) board(*each, flight);
  return flight;
}

void CompressedWriteCache::board(Cluster& cluster, Flight& flight) {
  cluster.ready = false;
  --waiting_clusters_;
  flight.clusters.push_back(cluster.index());
  for (const Range& blocks : cluster.take_off()) {
    const HostOffset at{cluster.index() * cluster_size_ + blocks.begin};
    const bool goes_on = !flight.extents.empty() && flight.extents.back().at + flight.extents.back().length == at;
    if (!goes_on) flight.extents.push_back({at, 0, {}});
    flight.extents.back().pieces.push_back(cluster.memory(blocks));
    flight.extents.back().length += blocks.length();
  }
}

core::Awaitable<void> CompressedWriteCache::fly(Flight flight) {
  bool arrived = true;
  try {
    for (const Extent& extent : flight.extents) {
      const std::span<const core::Bytes> pieces = extent.pieces;
      co_await file_.write_at(extent.at, pieces);
    }
  } catch (...) {
    arrived = false;
    if (!failure_) failure_ = std::current_exception();
  }
  land(flight, arrived);
}

// After a failure the clusters keep their memory: nobody knows what is in the file, but their bytes can still
// be read.
void CompressedWriteCache::land(const Flight& flight, bool arrived) {
  --flights_;
  for (const std::uint64_t index : flight.clusters) {
    Cluster& cluster = *find(index);
    cluster.land();
    if (!arrived) continue;
    if (cluster.has_unwritten()) {
      if (cluster.ready) wait_for_a_flight(cluster);
      continue;
    }
    active_.erase(cluster.place_in_active);
    cluster.park();
    send_or_forget(cluster);
  }
  pump();
  wake_waiters();
}

void CompressedWriteCache::wake_waiters() {
  landed_.wake_all();
  if (active_.size() < clusters_max_ || failure_ || stopping_) room_.wake_all();
}

// ---- orders from the owner

core::Awaitable<void> CompressedWriteCache::flush() {
  throw_if_failed();
  const Urgency urgency(*this);
  const std::uint64_t last_write = writes_;
  std::vector<std::uint64_t> awaited;
  for (Cluster* const cluster : active_) {
    awaited.push_back(cluster->index());
    if (cluster->has_unwritten()) want(*cluster);
  }
  pump();
  for (const std::uint64_t index : awaited) {
    for (;;) {
      throw_if_failed();
      const Cluster* const cluster = find(index);
      if (cluster == nullptr || !cluster->awaits(last_write)) break;
      co_await landed_.wait();
    }
  }
}

core::Awaitable<void> CompressedWriteCache::stop() {
  stopping_ = true;
  room_.wake_all();
  try {
    co_await flush();
  } catch (...) {
    if (!failure_) failure_ = std::current_exception();  // thrown below, once nothing is under way any more
  }
  while (flights_ != 0) co_await landed_.wait();
  stopped_ = true;
  if (!failure_) {
    CHECK(active_.empty());
    clusters_.clear();
  }
  stopped_wait_.wake_all();
  throw_if_failed();
}

void CompressedWriteCache::set_size(std::uint64_t size_bytes) {
  clusters_max_ = std::max<std::uint64_t>(1, size_bytes / cluster_size_);
  pump();
  if (active_.size() < clusters_max_) room_.wake_all();
}

}  // namespace qcow2
