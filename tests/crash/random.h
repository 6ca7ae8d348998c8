// The one source of chance: a small generator whose whole history follows from its seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace crash {

constexpr std::uint64_t mix(std::uint64_t value) {  // splitmix64's finish
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

constexpr std::uint64_t mix(std::uint64_t first, std::uint64_t second) {
  return mix(first * 0x9e3779b97f4a7c15ull + mix(second + 0x9e3779b97f4a7c15ull));
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed + 0x9e3779b97f4a7c15ull)) {}
  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15ull); }
  /// 0 to bound - 1; `bound` must not be 0.
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <class Value>
  const Value& pick(const std::vector<Value>& values) {
    return values[below(values.size())];
  }

 private:
  std::uint64_t state_;
};

}  // namespace crash
