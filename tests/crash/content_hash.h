// Bytes as 64-bit numbers, so that hundreds of thousands of images can be compared.
#pragma once

#include <cstdint>

#include "core/bytes.h"

namespace crash {

inline constexpr std::size_t guest_sector = 512;  ///< the unit of the oracle
inline constexpr std::uint64_t zero_hash = 0;     ///< of a guest sector full of zeros, and of nothing else

/// Fast and good against accidents, not against enemies.
std::uint64_t hash_bytes(core::Bytes bytes);
bool all_zero(core::Bytes bytes);
/// `zero_hash` for zeros.
std::uint64_t hash_sector(core::Bytes sector);

}  // namespace crash
