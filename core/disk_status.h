// What a disk says of its work since it was opened, and of its settings.
#pragma once

#include <cstdint>
#include <string_view>

namespace core {

/// When the background cleaner works: never, while nobody writes, or at any time, a part of it.
enum class Cleaning { off, idle, on };

/// As it is spelt in options.
constexpr std::string_view name_of(Cleaning cleaning) {
  switch (cleaning) {
    case Cleaning::off: return "off";
    case Cleaning::idle: return "idle";
    case Cleaning::on: return "on";
  }
  return "";
}

struct DiskStatus {
  std::uint64_t dirty_bytes = 0;    ///< memory held for what is not in the image yet
  std::uint64_t encoded_bytes = 0;  ///< of the disk: whole clusters that were given a place in the image
  std::uint64_t stored_bytes = 0;   ///< what those took there
  std::uint64_t commits = 0;
  std::uint64_t cache_hits = 0;    ///< compressed clusters that were in memory when they were read
  std::uint64_t cache_misses = 0;  ///< those that were decompressed
  std::uint64_t cache_size = 0;    ///< bytes; 0 where there is no such setting
  std::uint64_t commit_interval_ms = 0;
  std::uint64_t workers = 0;           ///< threads that compress; 0 where there is no such setting
  Cleaning cleaning = Cleaning::off;   ///< the setting
  bool compacting = false;             ///< at this moment
  std::uint64_t moved_bytes = 0;       ///< copied within the image, by cleaning and compaction
  std::uint64_t given_back_bytes = 0;  ///< of the host: punched out of the file
};

}  // namespace core
