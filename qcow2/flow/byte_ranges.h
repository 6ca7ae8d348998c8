// Which bytes of one cluster are known: a sorted list of half-open ranges that neither touch nor overlap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace qcow2 {

struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t length() const { return end - begin; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

class ByteRanges {
 public:
  ByteRanges() = default;
  explicit ByteRanges(ByteRange range) { add(range); }

  void add(ByteRange added) {
    if (added.begin >= added.end) return;
    const auto first = std::find_if(ranges_.begin(), ranges_.end(), [&](auto& r) { return r.end >= added.begin; });
    auto last = first;
    while (last != ranges_.end() && last->begin <= added.end) {
      added.begin = std::min(added.begin, last->begin);
      added.end = std::max(added.end, last->end);
      ++last;
    }
    ranges_.insert(ranges_.erase(first, last), added);
  }

  bool covers(ByteRange range) const {
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [&](const ByteRange& r) { return r.begin <= range.begin && range.end <= r.end; });
  }

  /// The parts of `range` that are known, in order.
  std::vector<ByteRange> within(ByteRange range) const {
    std::vector<ByteRange> parts;
    for (const ByteRange& r : ranges_) {
      const ByteRange part{std::max(r.begin, range.begin), std::min(r.end, range.end)};
      if (part.begin < part.end) parts.push_back(part);
    }
    return parts;
  }

  /// The parts of `range` that are not known, in order.
  std::vector<ByteRange> missing(ByteRange range) const {
    std::vector<ByteRange> gaps;
    std::uint64_t at = range.begin;
    for (const ByteRange& known : within(range)) {
      if (at < known.begin) gaps.push_back({at, known.begin});
      at = known.end;
    }
    if (at < range.end) gaps.push_back({at, range.end});
    return gaps;
  }

 private:
  std::vector<ByteRange> ranges_;
};

}  // namespace qcow2
