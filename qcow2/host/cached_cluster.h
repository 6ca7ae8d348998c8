// One cluster of the compressed write cache: its bytes, and what is known of each. No I/O and no waiting.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "core/bytes.h"
#include "qcow2/host/range_set.h"

namespace qcow2 {

/// It is active while it owns a cluster's memory: from the first byte placed until all of them are in the
/// file. What it keeps beyond that is what a later byte needs: which bytes are settled, and a copy of every
/// block that has some bytes in the file and some still to come.
///
/// Units      Ranges are bytes from the start of the cluster. `size` and `block` are powers of two.
/// Ownership  Bytes that have taken off must stay where they are until land(): neither park() nor
///            drop_bytes() before.
class CachedCluster {
 public:
  using Range = RangeSet::Range;

  CachedCluster(std::uint64_t index, std::uint64_t size, std::uint64_t block)
      : index_(index), size_(size), block_(block) {}

  std::uint64_t index() const { return index_; }  ///< its place in the file, counted in clusters
  bool active() const { return memory_.has_value(); }
  bool in_flight() const { return !flying_.empty(); }
  bool finished() const { return settled_.covers({0, size_}); }  ///< no byte will come any more
  bool ended() const { return ended_; }
  bool has_unwritten() const { return !unwritten_.empty(); }  ///< neither in the file nor in flight
  bool due() const { return has_unwritten() && (ended_ || finished()); }
  /// A byte that the `write`-th placing or an earlier one brought is not in the file yet.
  bool awaits(std::uint64_t write) const;
  /// `range` shares a block with bytes in flight, which must not change.
  bool in_flight_beside(Range range) const { return flying_.overlaps(RangeSet::rounded_out(range, block_)); }
  /// One write could bring the unwritten bytes of both to the file, `next` being the cluster behind this one.
  bool adjoins(const CachedCluster& next) const;

  void activate();
  /// Must be active. `write` counts the placings of the whole cache, from 1.
  void place(std::uint64_t at, core::Bytes bytes, std::uint64_t write);
  /// Nothing will be placed there.
  void settle(Range range);
  void end_at(std::uint64_t end);
  /// What is there is wanted no more, and other bytes will be placed. They must not be unwritten.
  void reopen(Range range);

  /// All unwritten bytes are now in flight. Returns their blocks; what these lack reads as zeros.
  const std::vector<Range>& take_off();
  void land();
  core::Bytes memory(Range range) const { return memory_->span().subspan(range.begin, range.length()); }

  /// Gives the memory back, all bytes being in the file.
  void park();
  /// Gives the memory back and forgets the bytes. What was settled remains so.
  void drop_bytes();

  std::vector<Range> present(Range window) const;  ///< the parts that memory() has; nothing unless active
  std::vector<Range> absent(Range window) const;

 private:
  std::uint64_t index_;
  std::uint64_t size_;
  std::uint64_t block_;
  std::optional<core::Buffer> memory_;
  std::map<std::uint64_t, core::Buffer> partial_blocks_;  // by offset
  RangeSet present_;                                      // placed, and valid in the memory or the partial blocks
  RangeSet settled_;                                      // will not be placed: were already, or never shall be
  RangeSet unwritten_;
  RangeSet flying_;                     // whole blocks
  std::uint64_t oldest_unwritten_ = 0;  // number of the first write among them; 0 for none
  std::uint64_t oldest_flying_ = 0;
  bool ended_ = false;
};

}  // namespace qcow2
