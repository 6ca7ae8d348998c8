#include "tests/crash/content_hash.h"

#include <algorithm>
#include <cstring>

#include "tests/crash/random.h"

namespace crash {
namespace {

std::uint64_t load(const std::byte* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

// Four independent lanes of multiply and rotate: one per pipeline of the processor.
std::uint64_t hash_bytes(core::Bytes bytes) {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15ull;
  std::uint64_t lanes[4] = {odd, ~odd, odd << 1 | 1, odd >> 1 | 1};
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      const std::uint64_t mixed = (lanes[lane] ^ load(bytes.data() + at + lane * 8)) * 0xff51afd7ed558ccdull;
      lanes[lane] = mixed ^ (mixed >> 32);
    }
  }
  std::uint64_t hash = mix(mix(lanes[0], lanes[1]), mix(lanes[2], lanes[3])) ^ bytes.size();
  for (; at < bytes.size(); ++at) hash = mix(hash, std::to_integer<std::uint64_t>(bytes[at]));
  return mix(hash);
}

bool all_zero(core::Bytes bytes) {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

std::uint64_t hash_sector(core::Bytes sector) {
  return all_zero(sector) ? zero_hash : std::max<std::uint64_t>(hash_bytes(sector), 1);
}

}  // namespace crash
