// How long things took, by number of times, in little memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace fuse {

/// Log-linear: each power of two of nanoseconds in 16 equal parts, so that what is said of a time is too large by a
/// sixteenth at most. Adding costs a few instructions.
/// Threads    One at a time.
class LatencyHistogram {
 public:
  using Duration = std::chrono::nanoseconds;

  void add(Duration time) {
    ++counts_[place_of(static_cast<std::uint64_t>(std::max<Duration::rep>(time.count(), 0)))];
    ++count_;
  }

  std::uint64_t count() const { return count_; }

  /// The time within which a part of all of them, from 0 to 1, was done; 0 where there are none.
  Duration quantile(double part) const {
    if (count_ == 0) return Duration::zero();
    const auto wanted =
        std::max<std::uint64_t>(1, static_cast<std::uint64_t>(part * static_cast<double>(count_) + 0.5));
    std::uint64_t seen = 0;
    std::size_t place = 0;
    while (place + 1 < places && (seen += counts_[place]) < wanted) ++place;
    return Duration(static_cast<Duration::rep>(end_of(place)));
  }

 private:
  static constexpr unsigned part_bits = 4;
  static constexpr unsigned exponent_max = 42;  // an hour and more: what takes longer is counted there
  static constexpr std::size_t places = (exponent_max - part_bits + 2) << part_bits;

  static std::size_t place_of(std::uint64_t value) {
    value = std::min(value, (std::uint64_t{1} << (exponent_max + 1)) - 1);
    const auto width = static_cast<unsigned>(std::bit_width(value));
    if (width <= part_bits) return value;
    const unsigned shift = width - 1 - part_bits;
    return ((shift + 1) << part_bits) + (value >> shift) - (std::size_t{1} << part_bits);
  }
  // The largest value that is counted at `place`.
  static std::uint64_t end_of(std::size_t place) {
    const std::uint64_t parts = std::uint64_t{1} << part_bits;
    if (place < parts) return place;
    const std::size_t shift = (place >> part_bits) - 1;
    return (((place & (parts - 1)) + parts + 1) << shift) - 1;
  }

  std::array<std::uint64_t, places> counts_{};
  std::uint64_t count_ = 0;
};

}  // namespace fuse
