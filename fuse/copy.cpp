// Lanes, each with one piece in hand: what is read ahead and what is being written is at most a piece for each.
#include "fuse/copy.h"

#include <optional>

#include "core/async.h"

namespace fuse {
namespace {

constexpr int copying_lanes = 8;

class Copy {
 public:
  Copy(CopySource& source, CopyTarget& target, Progress& progress)
      : source_(source), target_(target), progress_(progress) {}

  core::Awaitable<void> lane();

 private:
  core::Awaitable<void> move_pieces();
  core::Awaitable<std::optional<Piece>> claim(std::uint64_t& number);
  core::Awaitable<void> wait_for_turn(std::uint64_t number);
  core::Awaitable<void> deliver(const Piece& piece, std::uint64_t number);

  CopySource& source_;
  CopyTarget& target_;
  Progress& progress_;
  core::AsyncMutex claiming_;
  std::uint64_t claimed_ = 0;    ///< pieces
  std::uint64_t delivered_ = 0;  ///< pieces, where they go in order
  core::WaitList turns_;
  bool failed_ = false;
};

core::Awaitable<void> Copy::lane() {
  try {
    co_await move_pieces();
  } catch (...) {
    failed_ = true;
    turns_.wake_all();
    throw;
  }
}

core::Awaitable<void> Copy::move_pieces() {
  while (!failed_) {
    std::uint64_t number = 0;
    std::optional<Piece> piece = co_await claim(number);
    if (!piece) break;
    co_await source_.fill(*piece);
    if (target_.in_order()) co_await wait_for_turn(number);
    if (failed_) break;
    co_await deliver(*piece, number);
  }
}

core::Awaitable<std::optional<Piece>> Copy::claim(std::uint64_t& number) {
  const core::AsyncMutex::Guard alone = co_await claiming_.lock();
  number = claimed_;
  std::optional<Piece> piece = co_await source_.next();
  if (piece) ++claimed_;
  co_return piece;
}

core::Awaitable<void> Copy::wait_for_turn(std::uint64_t number) {
  while (delivered_ != number && !failed_) co_await turns_.wait();
}

core::Awaitable<void> Copy::deliver(const Piece& piece, std::uint64_t number) {
  co_await target_.write(piece.at, piece.bytes);
  delivered_ = number + 1;
  turns_.wake_all();
  progress_.reached(piece.at.value + piece.length);
}

}  // namespace

core::Awaitable<void> copy_disk(core::Engine& engine, CopySource& source, CopyTarget& target, Progress& progress) {
  Copy copy(source, target, progress);
  core::TaskGroup group(engine.executor());
  for (int i = 0; i < copying_lanes; ++i) group.spawn(copy.lane());
  co_await group.join();
  co_await target.finish(source.size());
}

}  // namespace fuse
