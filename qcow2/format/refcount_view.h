// Refcounts of 1 to 64 bits inside the bytes of a refcount block. Narrow ones fill a byte from its low end.
#pragma once

#include <cstdint>

#include "core/big_endian.h"
#include "core/bytes.h"
#include "core/zero_scan.h"

namespace qcow2 {

/// `bytes` is (part of) a refcount block, `index` counts refcounts from its start, 2^order bits each.
inline std::uint64_t get_refcount(core::Bytes bytes, std::uint64_t index, unsigned order) {
  switch (order) {
    case 3: return core::load_big_endian<std::uint8_t>(bytes, index);
    case 4: return core::load_big_endian<std::uint16_t>(bytes, index * 2);
    case 5: return core::load_big_endian<std::uint32_t>(bytes, index * 4);
    case 6: return core::load_big_endian<std::uint64_t>(bytes, index * 8);
    default: break;
  }
  const std::uint64_t bit = index << order;
  const unsigned byte = std::to_integer<unsigned>(bytes[bit / 8]);
  return byte >> (bit % 8) & ((1u << (1u << order)) - 1);
}

/// The first index from `from` on, below `count`, whose refcount is not 0; `count` where there is none.
inline std::uint64_t next_refcount(core::Bytes bytes, std::uint64_t from, std::uint64_t count, unsigned order) {
  constexpr std::size_t step = 64;  // bytes looked at as one
  while (from < count) {
    const std::uint64_t bit = from << order;
    if (bit % (8 * step) == 0 && bit / 8 + step <= bytes.size() && core::is_all_zero(bytes.subspan(bit / 8, step))) {
      from += (8 * step) >> order;
    } else if (get_refcount(bytes, from, order) != 0) {
      return from;
    } else {
      ++from;
    }
  }
  return count;
}

/// `value` must fit the width.
inline void set_refcount(core::MutableBytes bytes, std::uint64_t index, unsigned order, std::uint64_t value) {
  switch (order) {
    case 3: return core::store_big_endian(bytes, index, static_cast<std::uint8_t>(value));
    case 4: return core::store_big_endian(bytes, index * 2, static_cast<std::uint16_t>(value));
    case 5: return core::store_big_endian(bytes, index * 4, static_cast<std::uint32_t>(value));
    case 6: return core::store_big_endian(bytes, index * 8, value);
    default: break;
  }
  const std::uint64_t bit = index << order;
  const unsigned mask = ((1u << (1u << order)) - 1) << (bit % 8);
  const unsigned old_byte = std::to_integer<unsigned>(bytes[bit / 8]);
  const unsigned placed = static_cast<unsigned>(value) << (bit % 8) & mask;
  bytes[bit / 8] = static_cast<std::byte>((old_byte & ~mask) | placed);
}

}  // namespace qcow2
