#include "tests/support/scripted_file.h"

#include <algorithm>
#include <cstring>

#include "core/alignment.h"
#include "core/error.h"

namespace test {
namespace {

constexpr std::uint64_t page_size = 4096;

std::vector<std::byte> joined(std::span<const core::Bytes> pieces) {
  std::vector<std::byte> all(core::total_size(pieces));
  std::size_t done = 0;
  for (const core::Bytes piece : pieces) {
    std::memcpy(all.data() + done, piece.data(), piece.size());
    done += piece.size();
  }
  return all;
}

bool same(core::Bytes left, core::Bytes right) {  // std::byte is compared one by one otherwise
  return left.size() == right.size() && (left.empty() || std::memcmp(left.data(), right.data(), left.size()) == 0);
}

// Calls visit(page, offset in it, offset in the range, length) for the pieces of [at, at + length).
template <typename Visit>
void for_each_page(std::uint64_t at, std::uint64_t length, Visit visit) {
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t within = (at + done) % page_size;
    const std::uint64_t piece = std::min(length - done, page_size - within);
    visit((at + done) / page_size, within, done, piece);
    done += piece;
  }
}

}  // namespace

bool ScriptedFile::release_one(Kind kind) {
  if (held_count_[kind] == 0) return false;
  --held_count_[kind];
  held_[kind].wake_one();
  return true;
}

void ScriptedFile::release(Kind kind) {
  holds_[kind] = false;
  while (release_one(kind)) {
  }
}

void ScriptedFile::fail(Kind kind, std::size_t index, int error_number, std::uint64_t done_bytes) {
  failures_[{kind, index}] = Failure{error_number, done_bytes};
}

void ScriptedFile::set_content(std::uint64_t at, core::Bytes bytes) {
  store(at, bytes);
  size_ = std::max(size_, at + bytes.size());
}

std::vector<ScriptedFile::Operation> ScriptedFile::operations(Kind kind) const {
  std::vector<Operation> chosen;
  std::copy_if(operations_.begin(), operations_.end(), std::back_inserter(chosen),
               [kind](const Operation& operation) { return operation.kind == kind; });
  return chosen;
}

std::size_t ScriptedFile::count(Kind kind) const {
  const auto counted = std::count_if(operations_.begin(), operations_.end(),
                                     [kind](const Operation& operation) { return operation.kind == kind; });
  return static_cast<std::size_t>(counted);
}

std::size_t ScriptedFile::held(Kind kind) const {
  const auto found = held_count_.find(kind);
  return found == held_count_.end() ? 0 : found->second;
}

std::vector<std::byte> ScriptedFile::content(std::uint64_t at, std::uint64_t length) const {
  std::vector<std::byte> bytes(length);
  load(at, bytes);
  return bytes;
}

bool ScriptedFile::content_is(std::uint64_t at, core::Bytes bytes) const {
  return same(content(at, bytes.size()), bytes);
}

core::Awaitable<void> ScriptedFile::read_at(core::FileOffset at, core::MutableBytes target) {
  const std::size_t operation = begin({Kind::read, at.value, target.size(), 1, true, false, 0});
  const std::optional<Failure> failure = co_await pass_gate(Kind::read);
  if (failure) fail_operation(operation, failure->error_number);
  auto job = [this, at, target] { load(at.value, target); };
  co_await core::run(engine_.pool(), job);
  operations_[operation].done = true;
}

core::Awaitable<void> ScriptedFile::write_at(core::FileOffset at, std::span<const core::Bytes> pieces) {
  const std::uint64_t length = core::total_size(pieces);
  if (length == 0) co_return;
  const bool aligned =
      core::is_aligned(at.value, block_size_) && core::is_aligned(length, block_size_) && memory_aligned(pieces);
  const std::size_t operation = begin({Kind::write, at.value, length, pieces.size(), aligned, false, 0});
  core::AsyncMutex::Guard alone;
  if (!aligned) alone = co_await unaligned_.lock();
  note_overlaps(operation);
  running_.push_back(operation);
  running_max_ = std::max(running_max_, running_.size());
  std::exception_ptr error;
  try {
    co_await write_blocks(operation, pieces);
  } catch (...) {
    error = std::current_exception();
  }
  std::erase(running_, operation);
  if (error) std::rethrow_exception(error);
}

core::Awaitable<void> ScriptedFile::write_blocks(std::size_t operation, std::span<const core::Bytes> pieces) {
  const std::vector<std::byte> before = joined(pieces);
  const std::uint64_t at = operations_[operation].at;
  const std::optional<Failure> failure = co_await pass_gate(Kind::write);
  const std::size_t stored_size = failure ? std::min<std::uint64_t>(failure->done_bytes, before.size()) : before.size();
  std::vector<std::byte> stored;
  auto job = [this, at, stored_size, pieces, &stored] {
    stored = joined(pieces);
    store(at, core::Bytes(stored).first(stored_size));
  };
  co_await core::run(engine_.pool(), job);
  if (!same(stored, before)) note_fault("memory changed while it was being written at " + std::to_string(at));
  if (stored_size > 0) size_ = std::max(size_, at + stored_size);
  if (failure) fail_operation(operation, failure->error_number);
  operations_[operation].done = true;
}

core::Awaitable<void> ScriptedFile::barrier() {
  const std::size_t operation = begin({Kind::barrier, 0, 0, 0, true, false, 0});
  const std::optional<Failure> failure = co_await pass_gate(Kind::barrier);
  if (failure) fail_operation(operation, failure->error_number);
  operations_[operation].done = true;
}

core::Awaitable<void> ScriptedFile::truncate(std::uint64_t size) {
  const std::size_t operation = begin({Kind::truncate, size, 0, 0, true, false, 0});
  const std::optional<Failure> failure = co_await pass_gate(Kind::truncate);
  if (failure) fail_operation(operation, failure->error_number);
  clear(size, ~0ull);
  size_ = size;
  operations_[operation].done = true;
}

core::Awaitable<bool> ScriptedFile::reserve(core::FileOffset at, std::uint64_t length) {
  const std::size_t operation = begin({Kind::reserve, at.value, length, 0, true, false, 0});
  const std::optional<Failure> failure = co_await pass_gate(Kind::reserve);
  if (failure) fail_operation(operation, failure->error_number);
  operations_[operation].done = true;
  co_return true;
}

core::Awaitable<bool> ScriptedFile::punch(core::FileOffset at, std::uint64_t length) {
  const std::size_t operation = begin({Kind::punch, at.value, length, 0, true, false, 0});
  const std::optional<Failure> failure = co_await pass_gate(Kind::punch);
  if (failure) fail_operation(operation, failure->error_number);
  clear(at.value, at.value + length);
  operations_[operation].done = true;
  co_return true;
}

std::size_t ScriptedFile::begin(const Operation& operation) {
  operations_.push_back(operation);
  return operations_.size() - 1;
}

// Counts the operation, holds it where the script says so, and says how it is to fail.
core::Awaitable<std::optional<ScriptedFile::Failure>> ScriptedFile::pass_gate(Kind kind) {
  const auto failure = failures_.find({kind, begun_[kind]++});
  std::optional<Failure> outcome;
  if (failure != failures_.end()) outcome = failure->second;
  if (holds_[kind]) {
    ++held_count_[kind];
    co_await held_[kind].wait();
  }
  co_return outcome;
}

void ScriptedFile::fail_operation(std::size_t operation, int error_number) {
  operations_[operation].error = error_number;
  core::fail_errno(error_number, "as the script says");
}

void ScriptedFile::note_overlaps(std::size_t operation) {
  const Operation& added = operations_[operation];
  for (const std::size_t other : running_) {
    const Operation& running = operations_[other];
    if (core::align_down(added.at, block_size_) < core::align_up(running.end(), block_size_) &&
        core::align_down(running.at, block_size_) < core::align_up(added.end(), block_size_)) {
      note_fault("writes at " + std::to_string(running.at) + " and " + std::to_string(added.at) + " overlap");
    }
  }
}

void ScriptedFile::note_fault(const std::string& what) {
  if (fault_.empty()) fault_ = what;
}

bool ScriptedFile::memory_aligned(std::span<const core::Bytes> pieces) const {
  return std::all_of(pieces.begin(), pieces.end(), [this](core::Bytes piece) {
    return core::is_aligned(reinterpret_cast<std::uintptr_t>(piece.data()), block_size_) &&
           core::is_aligned(piece.size(), block_size_);
  });
}

void ScriptedFile::store(std::uint64_t at, core::Bytes bytes) {
  const std::lock_guard lock(memory_mutex_);
  for_each_page(at, bytes.size(),
                [&](std::uint64_t page, std::uint64_t within, std::uint64_t from, std::uint64_t size) {
                  std::vector<std::byte>& memory = pages_[page];
                  memory.resize(page_size);
                  std::memcpy(memory.data() + within, bytes.data() + from, size);
                });
}

void ScriptedFile::load(std::uint64_t at, core::MutableBytes target) const {
  const std::lock_guard lock(memory_mutex_);
  for_each_page(at, target.size(), [&](std::uint64_t page, std::uint64_t within, std::uint64_t to, std::uint64_t size) {
    const auto found = pages_.find(page);
    if (found == pages_.end()) {
      std::memset(target.data() + to, 0, size);
    } else {
      std::memcpy(target.data() + to, found->second.data() + within, size);
    }
  });
}

void ScriptedFile::clear(std::uint64_t from, std::uint64_t to) {
  const std::lock_guard lock(memory_mutex_);
  const auto end = pages_.upper_bound(to / page_size);
  for (auto page = pages_.lower_bound(from / page_size); page != end;) {
    const std::uint64_t begin = page->first * page_size;
    if (from <= begin && begin + page_size <= to) {
      page = pages_.erase(page);
      continue;
    }
    const std::uint64_t first = std::max(from, begin);
    const std::uint64_t last = std::min(to, begin + page_size);
    if (first < last) std::memset(page->second.data() + (first - begin), 0, last - first);
    ++page;
  }
}

}  // namespace test
