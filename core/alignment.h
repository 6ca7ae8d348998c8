// Rounding to powers of two.
#pragma once

#include <cstdint>

namespace core {

constexpr bool is_power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }
constexpr bool is_aligned(std::uint64_t value, std::uint64_t unit) { return (value & (unit - 1)) == 0; }
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t unit) { return value & ~(unit - 1); }
/// `value` must leave room for the rounding below 2^64.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) { return align_down(value + unit - 1, unit); }
constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

}  // namespace core
