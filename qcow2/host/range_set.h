// A set of bytes, kept as ranges. Meant for sets of few ranges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/alignment.h"

namespace qcow2 {

class RangeSet {
 public:
  /// [begin, end)
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t length() const { return end - begin; }
    bool empty() const { return begin >= end; }
    friend bool operator==(const Range&, const Range&) = default;
  };

  bool empty() const { return ranges_.empty(); }
  void clear() { ranges_.clear(); }
  const std::vector<Range>& ranges() const { return ranges_; }  ///< ascending; they neither overlap nor touch

  void add(Range range) {
    if (range.empty()) return;
    const auto first = reaching(range.begin);
    auto last = first;
    for (; last != ranges_.end() && last->begin <= range.end; ++last) {
      range = {std::min(range.begin, last->begin), std::max(range.end, last->end)};
    }
    ranges_.insert(ranges_.erase(first, last), range);
  }

  void remove(Range range) {
    if (range.empty()) return;
    std::vector<Range> rest;
    for (const Range& each : ranges_) {
      if (each.begin < range.begin) rest.push_back({each.begin, std::min(each.end, range.begin)});
      if (each.end > range.end) rest.push_back({std::max(each.begin, range.end), each.end});
    }
    ranges_ = std::move(rest);
  }

  bool covers(Range range) const {
    if (range.empty()) return true;
    const auto found = reaching(range.begin + 1);
    return found != ranges_.end() && found->begin <= range.begin && range.end <= found->end;
  }

  bool overlaps(Range range) const {
    if (range.empty()) return false;
    const auto found = reaching(range.begin + 1);
    return found != ranges_.end() && found->begin < range.end;
  }

  /// The parts of `window` that are in the set, in order.
  std::vector<Range> within(Range window) const {
    std::vector<Range> parts;
    for (auto at = reaching(window.begin + 1); at != ranges_.end() && at->begin < window.end; ++at) {
      parts.push_back({std::max(at->begin, window.begin), std::min(at->end, window.end)});
    }
    return parts;
  }

  /// The parts of `window` that are not, in order.
  std::vector<Range> missing(Range window) const {
    std::vector<Range> gaps;
    std::uint64_t at = window.begin;
    for (const Range& part : within(window)) {
      if (at < part.begin) gaps.push_back({at, part.begin});
      at = part.end;
    }
    if (at < window.end) gaps.push_back({at, window.end});
    return gaps;
  }

  /// The blocks that hold a byte of `range`, whole.
  static Range rounded_out(Range range, std::uint64_t block) {
    return {core::align_down(range.begin, block), core::align_up(range.end, block)};
  }
  RangeSet rounded_out(std::uint64_t block) const {
    RangeSet blocks;
    for (const Range& range : ranges_) blocks.add(rounded_out(range, block));
    return blocks;
  }

 private:
  // The first range that ends at or behind `at`.
  std::vector<Range>::const_iterator reaching(std::uint64_t at) const {
    return std::partition_point(ranges_.begin(), ranges_.end(), [at](const Range& range) { return range.end < at; });
  }

  std::vector<Range> ranges_;
};

}  // namespace qcow2
