#include "core/nbd/nbd_file.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/alignment.h"
#include "core/error.h"
#include "core/nbd/nbd_export.h"
#include "core/read_ahead.h"

namespace core {
namespace {

constexpr std::size_t connections_max = 4;
constexpr std::size_t sector = 512;
constexpr std::uint64_t given_back_at_once = 64 << 20;
// Some servers let no more in than they were told, and answer the others when somebody leaves.
constexpr std::chrono::milliseconds patience_for_more{1000};

Buffer gathered(std::span<const Bytes> pieces, std::uint64_t length) {
  Buffer whole(length);
  copy_pieces(pieces, whole.data());
  return whole;
}

}  // namespace

NbdExport open_nbd_export(Engine& engine, const std::string& uri, Access access, std::chrono::seconds timeout) {
  auto file = std::make_unique<NbdFile>(engine, uri, access, timeout);
  std::string name = file->export_name();
  return {std::make_unique<ReadAhead>(engine, std::move(file), ReadAhead::Sizes{}), std::move(name)};
}

NbdFile::NbdFile(Engine& engine, const std::string& uri, Access access, std::chrono::milliseconds timeout) {
  connections_.push_back(std::make_unique<NbdConnection>(engine.executor(), uri, timeout, timeout));
  facts_ = connections_.front()->facts();
  if (access == Access::read_write) require_writable(uri);
  block_size_ = std::max<std::size_t>(sector, facts_.block_min);
  if (facts_.multi_conn) connect_more(engine, uri, timeout);
  spdlog::info("{}: {} bytes, over {} connections", uri, facts_.size, connections_.size());
}

void NbdFile::require_writable(const std::string& uri) const {
  if (facts_.read_only) fail_errno(EROFS, uri + ": the server exports it read-only; -r mounts it so");
  if (!is_aligned(facts_.size, facts_.block_min)) {
    fail(Errc::unsupported_feature, uri + ": " + std::to_string(facts_.size) + " bytes are not whole blocks of " +
                                        std::to_string(facts_.block_min) +
                                        ", which the server insists on; -r mounts it read-only");
  }
  if (!facts_.flush && !facts_.fua) {
    fail(Errc::unsupported_feature,
         uri + ": the server can neither flush nor write through, so nothing would be durable; -r mounts it read-only");
  }
}

void NbdFile::connect_more(Engine& engine, const std::string& uri, std::chrono::milliseconds timeout) {
  try {
    while (connections_.size() < connections_max) {
      auto another = std::make_unique<NbdConnection>(engine.executor(), uri, timeout, patience_for_more);
      if (another->facts().size != facts_.size) return;  // not the same thing any more
      connections_.push_back(std::move(another));
    }
  } catch (const Error& error) {
    spdlog::debug("no more connections: {}", describe(error));
  }
}

NbdConnection& NbdFile::least_busy() {
  NbdConnection* best = connections_.front().get();
  for (const std::unique_ptr<NbdConnection>& connection : connections_) {
    if (!connection->lost().empty()) fail_errno(EIO, "the image's server: " + connection->lost());
    if (connection->in_flight() < best->in_flight()) best = connection.get();
  }
  return *best;
}

void NbdFile::require_within(std::uint64_t end, const char* doing) const {
  if (end > facts_.size) {
    fail_errno(ENOSPC, std::string(doing) + " the image in an NBD export of " + std::to_string(facts_.size) + " bytes");
  }
}

// The last block of an export may be cut short.
std::uint64_t NbdFile::covering_end(std::uint64_t end) const {
  return std::min(align_up(end, facts_.block_min), facts_.size);
}

Awaitable<void> NbdFile::read_blocks(FileOffset at, MutableBytes target) {
  while (target.size() > facts_.request_max) {
    co_await least_busy().read(at, target.first(facts_.request_max));
    target = target.subspan(facts_.request_max);
    at = at + facts_.request_max;
  }
  co_await least_busy().read(at, target);
}

Awaitable<void> NbdFile::write_blocks(FileOffset at, Bytes source) {
  const bool fua = !facts_.flush;
  while (source.size() > facts_.request_max) {
    co_await least_busy().write(at, source.first(facts_.request_max), fua);
    source = source.subspan(facts_.request_max);
    at = at + facts_.request_max;
  }
  co_await least_busy().write(at, source, fua);
}

Awaitable<void> NbdFile::read_at(FileOffset at, MutableBytes target) {
  const std::uint64_t there =
      at.value < facts_.size ? std::min<std::uint64_t>(target.size(), facts_.size - at.value) : 0;
  std::fill(target.begin() + static_cast<std::ptrdiff_t>(there), target.end(), std::byte{0});
  if (there == 0) co_return;
  const FileOffset first{align_down(at.value, facts_.block_min)};
  const std::uint64_t last = covering_end(at.value + there);
  if (first == at && last == at.value + there) {
    co_await read_blocks(at, target.first(there));
    co_return;
  }
  Buffer covering(last - first.value);
  co_await read_blocks(first, covering.span());
  std::memcpy(target.data(), covering.data() + (at - first), there);
}

Awaitable<void> NbdFile::write_at(FileOffset at, std::span<const Bytes> pieces) {
  const std::uint64_t length = total_size(pieces);
  if (length == 0) co_return;
  require_within(at.value + length, "writing");
  const bool whole_blocks =
      is_aligned(at.value, facts_.block_min) && covering_end(at.value + length) == at.value + length;
  if (!whole_blocks) {
    co_await write_unaligned(at, pieces, length);
  } else if (pieces.size() == 1) {
    co_await write_blocks(at, pieces.front());
  } else {
    const Buffer whole = gathered(pieces, length);
    co_await write_blocks(at, whole.span());
  }
}

Awaitable<void> NbdFile::write_unaligned(FileOffset at, std::span<const Bytes> pieces, std::uint64_t length) {
  const AsyncMutex::Guard alone = co_await unaligned_.lock();
  const FileOffset first{align_down(at.value, facts_.block_min)};
  const FileOffset last_block{align_down(at.value + length - 1, facts_.block_min)};
  Buffer covering(covering_end(at.value + length) - first.value);
  co_await read_at(first, covering.span().first(std::min<std::size_t>(facts_.block_min, covering.size())));
  if (last_block != first) co_await read_at(last_block, covering.span().subspan(last_block - first));
  copy_pieces(pieces, covering.data() + (at - first));
  co_await write_blocks(first, covering.span());
}

Awaitable<void> NbdFile::barrier() {
  if (facts_.flush) co_await least_busy().flush();
}

Awaitable<void> NbdFile::truncate(std::uint64_t size) {
  require_within(size, "lengthening");
  co_return;
}

Awaitable<bool> NbdFile::reserve(FileOffset at, std::uint64_t length) {
  require_within(at.value + length, "reserving space of");
  co_return true;
}

// Only whole blocks can be given back. In pieces, none of which takes a server long.
Awaitable<bool> NbdFile::punch(FileOffset at, std::uint64_t length) {
  FileOffset piece{align_up(at.value, facts_.block_min)};
  const FileOffset end{align_down(std::min(at.value + length, facts_.size), facts_.block_min)};
  bool blank = piece == at && end == at + length;
  while (piece < end) {
    const std::uint64_t here = std::min(end - piece, given_back_at_once);
    const bool zeroed = co_await give_back(piece, here);
    blank = blank && zeroed;
    piece = piece + here;
  }
  co_return blank;
}

// True where it reads as zeros then.
Awaitable<bool> NbdFile::give_back(FileOffset at, std::uint64_t length) {
  if (facts_.fast_zero) {
    try {
      co_await least_busy().zero_fast(at, length);
      co_return true;
    } catch (const Error& error) {
      if (error.code().value() != EOPNOTSUPP) throw;
    }
  }
  if (facts_.trim) {
    try {
      co_await least_busy().trim(at, length);
    } catch (const Error& error) {  // it was advice; and that a connection is lost, the next request is told
      spdlog::debug("{}", describe(error));
    }
  }
  co_return false;
}

}  // namespace core
