// Refcounts of 1 to 64 bits inside the bytes of a refcount block. Narrow ones fill a byte from its low end.
#pragma once

#include <cstdint>

#include "core/big_endian.h"
#include "core/bytes.h"

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
