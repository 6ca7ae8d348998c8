#include "qcow2/host/cached_cluster.h"

#include <cstring>
#include <utility>

#include "core/check.h"

namespace qcow2 {

bool CachedCluster::awaits(std::uint64_t write) const {
  return (oldest_unwritten_ != 0 && oldest_unwritten_ <= write) || (oldest_flying_ != 0 && oldest_flying_ <= write);
}

bool CachedCluster::adjoins(const CachedCluster& next) const {
  return core::align_up(unwritten_.ranges().back().end, block_) == size_ &&
         next.unwritten_.ranges().front().begin < block_;
}

void CachedCluster::activate() {
  CHECK(!active());
  memory_.emplace(size_);
  for (const auto& [at, block] : partial_blocks_) std::memcpy(memory_->data() + at, block.data(), block.size());
  partial_blocks_.clear();
}

void CachedCluster::place(std::uint64_t at, core::Bytes bytes, std::uint64_t write) {
  const Range range{at, at + bytes.size()};
  CHECK(active() && !settled_.overlaps(range) && !in_flight_beside(range));
  std::memcpy(memory_->data() + at, bytes.data(), bytes.size());
  present_.add(range);
  unwritten_.add(range);
  settled_.add(range);
  if (oldest_unwritten_ == 0) oldest_unwritten_ = write;
}

void CachedCluster::settle(Range range) {
  CHECK(!present_.overlaps(range));
  settled_.add(range);
}

void CachedCluster::end_at(std::uint64_t end) {
  settle({end, size_});
  ended_ = true;
}

void CachedCluster::reopen(Range range) {
  CHECK(!unwritten_.overlaps(range));
  settled_.remove(range);
  present_.remove(range);
  ended_ = false;
}

const std::vector<CachedCluster::Range>& CachedCluster::take_off() {
  CHECK(has_unwritten() && !in_flight());
  flying_ = unwritten_.rounded_out(block_);
  oldest_flying_ = std::exchange(oldest_unwritten_, 0);
  unwritten_.clear();
  for (const Range& blocks : flying_.ranges()) {
    for (const Range& hole : present_.missing(blocks)) {
      std::memset(memory_->data() + hole.begin, 0, hole.length());
    }
  }
  return flying_.ranges();
}

void CachedCluster::land() {
  flying_.clear();
  oldest_flying_ = 0;
}

void CachedCluster::park() {
  CHECK(active() && !in_flight() && !has_unwritten());
  RangeSet still_present;
  for (const Range& gap : settled_.missing({0, size_})) {
    for (const std::uint64_t edge : {gap.begin, gap.end}) {  // a partial block has an edge of a gap in it
      if (core::is_aligned(edge, block_)) continue;
      const Range block = RangeSet::rounded_out({edge, edge + 1}, block_);
      if (!present_.overlaps(block)) continue;
      if (partial_blocks_.contains(block.begin)) continue;
      core::Buffer copy(block_);
      std::memcpy(copy.data(), memory_->data() + block.begin, block_);
      partial_blocks_.emplace(block.begin, std::move(copy));
      for (const Range& part : present_.within(block)) still_present.add(part);
    }
  }
  present_ = std::move(still_present);
  memory_.reset();
}

void CachedCluster::drop_bytes() {
  CHECK(!in_flight());
  memory_.reset();
  partial_blocks_.clear();
  present_.clear();
  unwritten_.clear();
  oldest_unwritten_ = 0;
}

std::vector<CachedCluster::Range> CachedCluster::present(Range window) const {
  if (!active()) return {};
  return present_.within(window);
}

std::vector<CachedCluster::Range> CachedCluster::absent(Range window) const {
  if (!active()) return {window};
  return present_.missing(window);
}

}  // namespace qcow2
