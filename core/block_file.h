// The host file as everything above sees it. Implementations: DirectFile, and the test suite's own.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <optional>
#include <span>

#include "core/bytes.h"
#include "core/offset.h"

namespace core {

template <class T>
using Awaitable = boost::asio::awaitable<T>;

/// Units      Offsets and lengths are bytes of any alignment. Work whose offset, length and memory are multiples of
///            block_size() goes straight to the device; an unaligned edge of a write costs a read-modify-write of that
///            block, done under a lock so that neighbours in one block never lose each other's bytes.
/// Ownership  Buffers are borrowed until the awaitable completes and must not change meanwhile.
/// Errors     Throws core::Error carrying the device's errno.
/// Ordering   A write is durable once a barrier() that started after it completed has completed. Writes that overlap in
///            time must not overlap in bytes.
/// Threads    Called on the engine; every wait is a suspension.     Cancel  Not cancellable.
class BlockFile {
 public:
  virtual ~BlockFile() = default;

  /// The smallest block that the device writes whole: a power of two from 512 bytes.
  virtual std::size_t block_size() const = 0;
  /// Bytes in the file now: the end of the furthest completed write or truncate.
  virtual std::uint64_t size() const = 0;
  /// Bytes that the file takes on its file system; nothing where no file system deals them out.
  virtual std::optional<std::uint64_t> allocated_bytes() const = 0;
  /// How many operations are worth having under way at once: with fewer the device, or the way to it, stands idle.
  virtual std::size_t depth() const { return 4; }

  /// Fills `target`; what lies beyond the end of the file reads as zeros.
  virtual Awaitable<void> read_at(FileOffset at, MutableBytes target) = 0;
  /// Writes the pieces one after the other from `at`, growing the file as needed. The span itself is borrowed too.
  virtual Awaitable<void> write_at(FileOffset at, std::span<const Bytes> pieces) = 0;
  /// Makes every completed write, the file's length included, survive a power cut.
  virtual Awaitable<void> barrier() = 0;
  virtual Awaitable<void> truncate(std::uint64_t size) = 0;
  /// Has the file system set space aside for [at, at + length), which may lie beyond the end; neither bytes nor length
  /// of the file change. Throws ENOSPC where there is not that much; false where the file system makes no such
  /// promises.
  virtual Awaitable<bool> reserve(FileOffset at, std::uint64_t length) = 0;
  /// Gives the space of [at, at + length) back, where the file system can: true, and it reads as zeros from then on.
  /// The file's length does not change.
  virtual Awaitable<bool> punch(FileOffset at, std::uint64_t length) = 0;

  Awaitable<void> write_at(FileOffset at, Bytes source) { co_await write_at(at, std::span<const Bytes>(&source, 1)); }
};

}  // namespace core
