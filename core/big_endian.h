// Big-endian integers in raw bytes, whatever the machine's own order.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "core/bytes.h"
#include "core/check.h"

namespace core {

/// The integer stored at bytes[offset, offset + sizeof(Integer)), which must lie within `bytes`.
template <std::unsigned_integral Integer>
Integer load_big_endian(Bytes bytes, std::size_t offset) {
  CHECK(offset + sizeof(Integer) <= bytes.size());
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    value = value << 8 | std::to_integer<std::uint64_t>(bytes[offset + i]);
  }
  return static_cast<Integer>(value);
}

template <std::unsigned_integral Integer>
void store_big_endian(MutableBytes bytes, std::size_t offset, Integer value) {
  CHECK(offset + sizeof(Integer) <= bytes.size());
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    const unsigned shift = static_cast<unsigned>(8 * (sizeof(Integer) - 1 - i));
    bytes[offset + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> shift);
  }
}

}  // namespace core
