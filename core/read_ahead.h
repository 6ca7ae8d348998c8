// A block file that reads ahead of whoever reads it in order: for files that are far away.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "core/async.h"
#include "core/block_file.h"
#include "core/bytes.h"
#include "core/engine.h"

namespace core {

/// Follows a few readers, and reads ahead of each as far as that has read in order, within a window. What is read ahead
/// is kept until it has been read or is old, or until somebody changes the file there: nobody is served bytes that a
/// write which has completed has replaced. What cannot be read ahead is read again when it is asked for, and the error
/// told then.
///
/// Memory     Sizes::kept.
/// Ownership  The file lives until the last of what was read ahead has come.
/// Errors, threads  As of the file below.
class ReadAhead final : public BlockFile {
 public:
  struct Sizes {
    std::uint64_t chunk = 256 << 10;  ///< read at once; a power of two
    std::uint64_t window = 8 << 20;   ///< ahead, for all readers together
    std::uint64_t kept = 16 << 20;    ///< on the way, and come
    std::uint64_t slack = 2 << 20;    ///< by which reads that are under way together may come out of order
    std::uint64_t run = 8 << 10;      ///< who has read less than this in order is not followed
  };

  ReadAhead(Engine& engine, std::shared_ptr<BlockFile> file, Sizes sizes)
      : engine_(engine), file_(std::move(file)), sizes_(sizes) {}

  std::size_t block_size() const override { return file_->block_size(); }
  std::uint64_t size() const override { return file_->size(); }
  std::optional<std::uint64_t> allocated_bytes() const override { return file_->allocated_bytes(); }
  std::size_t depth() const override { return file_->depth(); }

  Awaitable<void> read_at(FileOffset at, MutableBytes target) override;
  using BlockFile::write_at;
  Awaitable<void> write_at(FileOffset at, std::span<const Bytes> pieces) override;
  Awaitable<void> barrier() override { return file_->barrier(); }
  Awaitable<void> truncate(std::uint64_t size) override;
  Awaitable<bool> reserve(FileOffset at, std::uint64_t length) override { return file_->reserve(at, length); }
  Awaitable<bool> punch(FileOffset at, std::uint64_t length) override;

 private:
  struct Chunk;
  struct Reader {
    std::uint64_t end = 0;   ///< where it will read next
    std::uint64_t run = 0;   ///< bytes that it has read in order, after the first read
    std::uint64_t used = 0;  ///< when
  };
  class Change;

  Reader* reader_at(std::uint64_t at);
  std::uint64_t share_of_window() const;
  void follow(std::uint64_t at, std::uint64_t length);
  void read_ahead(std::uint64_t from, std::uint64_t to);
  bool drop_one();
  void forget(std::uint64_t at, std::uint64_t end);
  std::shared_ptr<Chunk> find(std::uint64_t at) const;
  Awaitable<void> read_part(std::shared_ptr<Chunk> chunk, FileOffset at, MutableBytes target);
  static Awaitable<void> load(std::shared_ptr<BlockFile> file, std::shared_ptr<Chunk> chunk);

  Engine& engine_;
  std::shared_ptr<BlockFile> file_;
  Sizes sizes_;
  std::array<Reader, 8> readers_;
  std::uint64_t reads_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Chunk>> chunks_;  ///< by number; those that may be served
  std::deque<std::shared_ptr<Chunk>> kept_;                 ///< all that take memory, the oldest first
};

}  // namespace core
