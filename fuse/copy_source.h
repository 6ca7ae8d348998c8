// Where the bytes of a copy come from: piece by piece, what surely reads as zeros left out.
#pragma once

#include <cstdint>
#include <optional>

#include "core/engine.h"
#include "core/guest_disk.h"
#include "fuse/images.h"

namespace fuse {

/// A part of the disk that may hold something else than zeros.
struct Piece {
  core::DiskOffset at;
  std::uint64_t length = 0;  ///< bytes, never 0
  core::SharedBytes bytes;   ///< all of it, once it is filled
};

/// Errors     Throws core::Error whose sentence names the source.
/// Threads    The engine's strand.
class CopySource {
 public:
  virtual ~CopySource() = default;
  /// Bytes of the disk: all of it once next() has returned nothing, before that what is known.
  virtual std::uint64_t size() const = 0;
  /// The pieces in the order of the disk, then nothing. One call at a time.
  virtual core::Awaitable<std::optional<Piece>> next() = 0;
  /// Reads the piece. Any number at a time.
  virtual core::Awaitable<void> fill(Piece& piece) = 0;
};

/// An image's pieces, made of whole units of `unit` bytes (a power of two) wherever the disk does not end.
class DiskPieces final : public CopySource {
 public:
  DiskPieces(Source& source, std::uint64_t unit);
  std::uint64_t size() const override { return source_.size(); }
  core::Awaitable<std::optional<Piece>> next() override;
  core::Awaitable<void> fill(Piece& piece) override;

 private:
  core::Awaitable<void> find_data();

  Source& source_;
  std::uint64_t unit_;
  std::uint64_t piece_size_;
  std::uint64_t at_ = 0;        ///< the next piece starts here or later
  std::uint64_t data_end_ = 0;  ///< up to here everything may be data
};

/// A raw disk that comes through a pipe.
class StreamPieces final : public CopySource {
 public:
  /// Borrows the descriptor. One whose bytes start like a qcow2 image is refused unless it `must_be_raw`.
  StreamPieces(core::Engine& engine, int descriptor, bool must_be_raw);
  std::uint64_t size() const override { return at_; }
  core::Awaitable<std::optional<Piece>> next() override;
  core::Awaitable<void> fill(Piece&) override { co_return; }  // it came with its bytes

 private:
  core::Engine& engine_;
  int descriptor_;
  bool must_be_raw_;
  std::uint64_t at_ = 0;
};

}  // namespace fuse
