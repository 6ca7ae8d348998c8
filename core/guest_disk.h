// The raw disk that a guest sees: the only word that fuse/ knows.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "core/block_file.h"
#include "core/bytes.h"
#include "core/disk_status.h"
#include "core/error.h"
#include "core/offset.h"

namespace core {

/// How an image is to be made smaller.
struct CompactOrder {
  std::optional<int> recompress_level;  ///< what becomes shorter at this level is stored so
  std::function<void(std::uint64_t done, std::uint64_t total)> progress = [](std::uint64_t, std::uint64_t) {};
  std::function<bool()> cancelled = [] { return false; };  ///< asked often: true ends it early, with nothing lost
};

/// Units      Offsets and lengths are bytes of any alignment.
/// Ownership  read() borrows its target until it completes; write() shares its payload and may keep it much longer.
/// Errors     Throws core::Error. Once something could not be made durable, every later flush() and close() throws it.
/// Ordering   write(), zero() and resize() are visible to every read() that starts after they complete, and durable
///            once a flush() that started after they completed has completed.
/// Threads    Called on the engine; any number of operations may be under way at once.     Cancel  Not cancellable.
class GuestDisk {
 public:
  virtual ~GuestDisk() = default;

  virtual std::uint64_t size() const = 0;             ///< bytes of the disk
  virtual std::uint32_t cluster_size() const = 0;     ///< bytes that are stored together: the best size of a write
  virtual std::uint64_t allocated_bytes() const = 0;  ///< bytes that the disk takes on the host
  virtual bool read_only() const = 0;
  virtual DiskStatus status() const { return {}; }
  virtual ErrorCode failure() const = 0;  ///< what flush() would throw from now on, or none: costs nothing

  /// Fills `target`, which must lie within size(): the caller clamps.
  virtual Awaitable<void> read(DiskOffset at, MutableBytes target) = 0;
  /// Completes when the bytes are resident; waits for room while too much is. Grows the disk where it ends beyond it.
  virtual Awaitable<void> write(DiskOffset at, SharedBytes payload) = 0;
  /// Makes [at, at + length) read as zeros and gives its space back. Does not grow the disk.
  virtual Awaitable<void> zero(DiskOffset at, std::uint64_t length) = 0;
  virtual Awaitable<void> resize(std::uint64_t size) = 0;
  virtual Awaitable<void> flush() = 0;
  /// The first byte from `at` on that may hold data, or size().
  virtual Awaitable<std::uint64_t> next_data(DiskOffset at) = 0;
  /// The first byte from `at` on that is known to read as zeros, or size().
  virtual Awaitable<std::uint64_t> next_hole(DiskOffset at) = 0;
  /// Makes the image smaller in place, beside whatever else is under way; an end at any moment loses nothing.
  virtual Awaitable<void> compact(const CompactOrder& order);
  /// Settings that may change at any time; a disk without them ignores that. `bytes` bound what is held in memory.
  virtual void set_commit_interval(std::chrono::milliseconds) {}
  virtual void set_cache_size(std::uint64_t /*bytes*/) {}
  virtual void set_workers(std::size_t /*threads*/) {}
  virtual void set_cleaning(Cleaning) {}
  /// Flushes, gives everything back and refuses what comes later. Must be called once before destruction.
  virtual Awaitable<void> close() = 0;
};

}  // namespace core
