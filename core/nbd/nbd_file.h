// An export of an NBD server as the image's file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/async.h"
#include "core/block_file.h"
#include "core/direct_file.h"
#include "core/engine.h"
#include "core/nbd/nbd_connection.h"

namespace core {

/// Over several connections where the server says that a flush on one counts for all. The first that is lost takes the
/// file with it: what it had written may be gone, and a flush would not tell.
///
/// It has the size of the export: truncate() and reserve() throw ENOSPC beyond it and do nothing within, and what was
/// cut off keeps its bytes. A barrier is a flush; a server that has no flush, but FUA, gets each write with that. Space
/// is given back by zeroing, where the server does that fast, or by trimming, which is but advice.
///
/// There are no locks: whether somebody else writes to the export, only its server knows.
class NbdFile final : public BlockFile {
 public:
  /// Connects. See open_nbd_export().
  NbdFile(Engine& engine, const std::string& uri, Access access, std::chrono::milliseconds timeout);

  std::string export_name() const { return connections_.front()->export_name(); }

  std::size_t block_size() const override { return block_size_; }
  std::uint64_t size() const override { return facts_.size; }
  std::optional<std::uint64_t> allocated_bytes() const override { return std::nullopt; }
  std::size_t depth() const override { return 64; }  // of 64 KiB as a rule, or more

  Awaitable<void> read_at(FileOffset at, MutableBytes target) override;
  using BlockFile::write_at;
  Awaitable<void> write_at(FileOffset at, std::span<const Bytes> pieces) override;
  Awaitable<void> barrier() override;
  Awaitable<void> truncate(std::uint64_t size) override;
  Awaitable<bool> reserve(FileOffset at, std::uint64_t length) override;
  Awaitable<bool> punch(FileOffset at, std::uint64_t length) override;

 private:
  void require_writable(const std::string& uri) const;
  void connect_more(Engine& engine, const std::string& uri, std::chrono::milliseconds timeout);
  NbdConnection& least_busy();
  void require_within(std::uint64_t end, const char* doing) const;
  std::uint64_t covering_end(std::uint64_t end) const;
  Awaitable<void> read_blocks(FileOffset at, MutableBytes target);
  Awaitable<void> write_blocks(FileOffset at, Bytes source);
  Awaitable<bool> give_back(FileOffset at, std::uint64_t length);
  Awaitable<void> write_unaligned(FileOffset at, std::span<const Bytes> pieces, std::uint64_t length);

  std::vector<std::unique_ptr<NbdConnection>> connections_;  ///< one at least
  NbdFacts facts_;
  std::size_t block_size_ = 512;
  AsyncMutex unaligned_;  ///< one read-modify-write at a time: their blocks may be the same
};

}  // namespace core
