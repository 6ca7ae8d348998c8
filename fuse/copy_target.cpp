#include "fuse/copy_target.h"

#include <algorithm>
#include <vector>

#include "core/zero_scan.h"
#include "fuse/standard_streams.h"

namespace fuse {
namespace {

constexpr std::size_t block = 4096;        // what most file systems take space by
constexpr std::size_t gap_min = 32 << 10;  // zeros between data: fewer cost less to write than another request
constexpr std::size_t zeros_step = 1 << 20;

struct Run {
  std::size_t at = 0;
  std::size_t end = 0;
};

// What of `bytes` is not zeros, in whole blocks.
std::vector<Run> data_runs(core::Bytes bytes) {
  std::vector<Run> runs;
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    const std::size_t end = std::min(at + block, bytes.size());
    if (core::is_all_zero(bytes.subspan(at, end - at))) continue;
    const bool joins = !runs.empty() && at - runs.back().end < gap_min;
    if (!joins) runs.push_back({at, end});
    runs.back().end = end;
  }
  return runs;
}

}  // namespace

core::Awaitable<void> DiskTarget::write(core::DiskOffset at, core::SharedBytes bytes) {
  return naming(name_, disk_.write(at, std::move(bytes)));
}

core::Awaitable<void> DiskTarget::finish(std::uint64_t size) {
  if (disk_.size() == size) co_return;
  auto resized = disk_.resize(size);
  co_await naming(name_, std::move(resized));
}

core::Awaitable<void> FileTarget::write(core::DiskOffset at, core::SharedBytes bytes) {
  auto job = [bytes] { return data_runs(bytes.bytes); };
  const std::vector<Run> runs = co_await core::run(engine_.pool(), job);
  for (const Run& run : runs) {
    const core::Bytes data = bytes.bytes.subspan(run.at, run.end - run.at);
    auto written = file_.write_at(core::FileOffset{at.value + run.at}, data);
    co_await naming(name_, std::move(written));
  }
}

core::Awaitable<void> FileTarget::finish(std::uint64_t size) {
  auto truncated = file_.truncate(size);
  co_await naming(name_, std::move(truncated));
}

core::Awaitable<void> StreamTarget::write(core::DiskOffset at, core::SharedBytes bytes) {
  co_await write_zeros(at.value);
  auto job = [descriptor = descriptor_, bytes] { write_stream(descriptor, bytes.bytes); };
  co_await core::run(engine_.io(), job);
  at_ += bytes.size();
}

core::Awaitable<void> StreamTarget::write_zeros(std::uint64_t end) {
  if (at_ >= end) co_return;
  const core::Buffer zeros = core::Buffer::zeroed(std::min<std::uint64_t>(end - at_, zeros_step));
  while (at_ < end) {
    const core::Bytes part = zeros.span().first(std::min<std::uint64_t>(end - at_, zeros.size()));
    auto job = [descriptor = descriptor_, part] { write_stream(descriptor, part); };
    co_await core::run(engine_.io(), job);
    at_ += part.size();
  }
}

}  // namespace fuse
