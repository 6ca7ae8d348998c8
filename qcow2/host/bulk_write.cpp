#include "qcow2/host/bulk_write.h"

#include <algorithm>

#include "core/async.h"
#include "qcow2/limits.h"

namespace qcow2 {
namespace {

struct JoinedWrite {
  HostOffset at;
  std::vector<core::Bytes> pieces;
  std::uint64_t length = 0;
};

std::vector<JoinedWrite> join_neighbours(std::vector<PendingWrite>& writes) {
  std::sort(writes.begin(), writes.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<JoinedWrite> joined;
  for (const auto& [at, bytes] : writes) {
    const bool adjacent = !joined.empty() && joined.back().at + joined.back().length == at &&
                          joined.back().length + bytes.size() <= limits::write_bytes_max;
    if (!adjacent) joined.push_back(JoinedWrite{at, {}, 0});
    joined.back().pieces.push_back(bytes.span());
    joined.back().length += bytes.size();
  }
  return joined;
}

// Several of these share the work: each takes the next write until none is left.
core::Awaitable<void> write_next(core::BlockFile& file, std::vector<JoinedWrite>& joined, std::size_t& next) {
  while (next < joined.size()) {
    const JoinedWrite& write = joined[next++];
    const std::span<const core::Bytes> pieces = write.pieces;
    co_await file.write_at(write.at, pieces);
  }
}

}  // namespace

core::Awaitable<void> write_all(core::Engine& engine, core::BlockFile& file, std::vector<PendingWrite> writes) {
  std::vector<JoinedWrite> joined = join_neighbours(writes);
  std::size_t next = 0;
  core::TaskGroup writers(engine.executor());
  const std::size_t count = std::min(joined.size(), file.depth());
  for (std::size_t i = 0; i < count; ++i) writers.spawn(write_next(file, joined, next));
  co_await writers.join();
}

}  // namespace qcow2
