#include "core/read_ahead.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <cstring>
#include <new>
#include <utility>

#include "core/alignment.h"
#include "core/error.h"

namespace core {
namespace {

constexpr std::uint64_t recent_reads = 64;

std::uint64_t distance(std::uint64_t one, std::uint64_t other) { return std::max(one, other) - std::min(one, other); }

}  // namespace

struct ReadAhead::Chunk {
  Chunk(std::uint64_t its_number, std::uint64_t size) : number(its_number), bytes(size) {}
  std::uint64_t number;
  Buffer bytes;
  bool come = false;
  bool failed = false;
  std::uint64_t served = 0;  ///< bytes
  WaitList waiting;
};

// While one is under way, a read may show what was there before. When it is over, nothing may that was read ahead
// before or beside it.
class ReadAhead::Change {
 public:
  Change(ReadAhead& file, std::uint64_t at, std::uint64_t end) : file_(file), at_(at), end_(end) {}
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
  ~Change() { file_.forget(at_, end_); }

 private:
  ReadAhead& file_;
  std::uint64_t at_;
  std::uint64_t end_;
};

void ReadAhead::forget(std::uint64_t at, std::uint64_t end) {
  chunks_.erase(chunks_.lower_bound(at / sizes_.chunk), chunks_.lower_bound(divide_up(end, sizes_.chunk)));
}

std::shared_ptr<ReadAhead::Chunk> ReadAhead::find(std::uint64_t at) const {
  const auto found = chunks_.find(at / sizes_.chunk);
  return found == chunks_.end() || found->second->failed ? nullptr : found->second;
}

ReadAhead::Reader* ReadAhead::reader_at(std::uint64_t at) {
  for (Reader& reader : readers_) {
    if (reader.used != 0 && distance(reader.end, at) <= sizes_.slack) return &reader;
  }
  return nullptr;
}

void ReadAhead::follow(std::uint64_t at, std::uint64_t length) {
  ++reads_;
  Reader* const reader = reader_at(at);
  if (reader == nullptr) {
    const auto read_earlier = [](const Reader& one, const Reader& other) { return one.used < other.used; };
    *std::min_element(readers_.begin(), readers_.end(), read_earlier) = {at + length, 0, reads_};
    return;
  }
  reader->used = reads_;
  if (at + length <= reader->end) return;
  reader->end = at + length;
  reader->run += length;
  if (reader->run >= sizes_.run) read_ahead(reader->end, reader->end + std::min(reader->run, share_of_window()));
}

// Those share it that have read long enough to want much of it, and still do.
std::uint64_t ReadAhead::share_of_window() const {
  const auto wants_much = [this](const Reader& reader) {
    return reader.run >= sizes_.window / 2 && reads_ - reader.used < recent_reads;
  };
  const auto sharing = std::count_if(readers_.begin(), readers_.end(), wants_much);
  return sizes_.window / static_cast<std::uint64_t>(std::max<std::ptrdiff_t>(1, sharing));
}

void ReadAhead::read_ahead(std::uint64_t from, std::uint64_t to) {
  const std::uint64_t last = divide_up(std::min(to, file_->size()), sizes_.chunk);
  for (std::uint64_t number = from / sizes_.chunk; number < last; ++number) {
    if (chunks_.contains(number)) continue;
    if (kept_.size() >= sizes_.kept / sizes_.chunk && !drop_one()) return;
    const auto chunk = std::make_shared<Chunk>(number, sizes_.chunk);
    kept_.push_back(chunk);
    chunks_.emplace(number, chunk);
    boost::asio::co_spawn(engine_.executor(), load(file_, chunk), Supervised{"read-ahead"});
  }
}

// What has been read to its end goes first. So a table stays of which a long reader needs a little now and then. What
// is still on its way stays: it would take its memory all the same. False where there is nothing else.
bool ReadAhead::drop_one() {
  const auto has_come = [](const std::shared_ptr<Chunk>& chunk) { return chunk->come; };
  const auto is_used_up = [this](const std::shared_ptr<Chunk>& chunk) {
    return chunk->come && chunk->served >= sizes_.chunk;
  };
  auto place = std::find_if(kept_.begin(), kept_.end(), is_used_up);
  if (place == kept_.end()) place = std::find_if(kept_.begin(), kept_.end(), has_come);
  if (place == kept_.end()) return false;
  const auto found = chunks_.find((*place)->number);
  if (found != chunks_.end() && found->second == *place) chunks_.erase(found);
  kept_.erase(place);
  return true;
}

Awaitable<void> ReadAhead::load(std::shared_ptr<BlockFile> file, std::shared_ptr<Chunk> chunk) {
  try {
    co_await file->read_at(FileOffset{chunk->number * chunk->bytes.size()}, chunk->bytes.span());
  } catch (const std::exception&) {
    chunk->failed = true;
  }
  chunk->come = true;
  chunk->waiting.wake_all();
}

Awaitable<void> ReadAhead::read_part(std::shared_ptr<Chunk> chunk, FileOffset at, MutableBytes target) {
  if (chunk) {
    while (!chunk->come) co_await chunk->waiting.wait();
    if (!chunk->failed) {
      chunk->served += target.size();
      std::memcpy(target.data(), chunk->bytes.data() + at.value % chunk->bytes.size(), target.size());
      co_return;
    }
  }
  co_await file_->read_at(at, target);
}

Awaitable<void> ReadAhead::read_at(FileOffset at, MutableBytes target) {
  // What is asked for goes first.
  TaskGroup parts(engine_.executor());
  const FileOffset begin = at;
  const std::uint64_t length = target.size();
  while (!target.empty()) {
    const std::shared_ptr<Chunk> chunk = find(at.value);
    std::uint64_t end = align_down(at.value, sizes_.chunk) + sizes_.chunk;
    const std::uint64_t whole = at.value + target.size();
    while (!chunk && end < whole && !find(end)) end += sizes_.chunk;
    const MutableBytes part = target.first(static_cast<std::size_t>(std::min(end, whole) - at.value));
    parts.spawn(read_part(chunk, at, part));
    at = at + part.size();
    target = target.subspan(part.size());
  }
  try {
    follow(begin.value, length);
  } catch (const std::bad_alloc&) {  // then there is no memory to read ahead to
  }
  co_await parts.join();
}

Awaitable<void> ReadAhead::write_at(FileOffset at, std::span<const Bytes> pieces) {
  const Change change(*this, at.value, at.value + total_size(pieces));
  co_await file_->write_at(at, pieces);
}

Awaitable<void> ReadAhead::truncate(std::uint64_t size) {
  const Change change(*this, size, std::max(size, file_->size()));
  co_await file_->truncate(size);
}

Awaitable<bool> ReadAhead::punch(FileOffset at, std::uint64_t length) {
  const Change change(*this, at.value, at.value + length);
  co_return co_await file_->punch(at, length);
}

}  // namespace core
