// What a disk says of its work since it was opened.
#pragma once

#include <cstdint>

namespace core {

struct DiskStatus {
  std::uint64_t dirty_bytes = 0;    ///< memory held for what is not in the image yet
  std::uint64_t encoded_bytes = 0;  ///< of the disk: whole clusters that were given a place in the image
  std::uint64_t stored_bytes = 0;   ///< what those took there
  std::uint64_t commits = 0;
  std::uint64_t cache_hits = 0;    ///< compressed clusters that were in memory when they were read
  std::uint64_t cache_misses = 0;  ///< those that were decompressed
  std::uint64_t cache_size = 0;    ///< bytes; 0 where there is no such setting
  std::uint64_t commit_interval_ms = 0;
};

}  // namespace core
