// A block file whose writes wait for space instead of failing for want of it, and that is left as it is once something
// else has failed.
#pragma once

#include "core/async.h"
#include "core/block_file.h"
#include "core/fail_stop.h"

namespace core {

/// A full host disk must cost nobody a byte that was accepted, and an order of writes cannot be resumed from its
/// middle. So a write that finds no space stays under way, and `health` says that space is short, until retry() lets it
/// try again.
///
/// After any other failure of what changes the file nobody knows what it holds: `health` remembers the first, and
/// nothing is changed any more, whoever asks. What is under way by then still arrives or does not.
///
/// Errors     As the file below, except that between be_patient() and give_up() no write throws ENOSPC; after a failure
///            everything but reading throws that failure.
/// Threads    The engine's strand.
class PatientFile final : public BlockFile {
 public:
  /// Both must outlive this.
  PatientFile(BlockFile& file, FailStop& health) : file_(file), health_(health) {}

  void be_patient() { patient_ = true; }
  /// Has all writes that wait for space try once more; completes when each has been written or waits again.
  Awaitable<void> retry();
  /// From now on want of space is a failure like any other, for those that wait too.
  void give_up();

  std::size_t block_size() const override { return file_.block_size(); }
  std::uint64_t size() const override { return file_.size(); }
  std::optional<std::uint64_t> allocated_bytes() const override { return file_.allocated_bytes(); }
  std::size_t depth() const override { return file_.depth(); }
  Awaitable<void> read_at(FileOffset at, MutableBytes target) override { return file_.read_at(at, target); }
  using BlockFile::write_at;
  Awaitable<void> write_at(FileOffset at, std::span<const Bytes> pieces) override;
  Awaitable<void> barrier() override;
  Awaitable<void> truncate(std::uint64_t size) override { return change(file_.truncate(size)); }
  Awaitable<bool> reserve(FileOffset at, std::uint64_t length) override { return file_.reserve(at, length); }
  Awaitable<bool> punch(FileOffset at, std::uint64_t length) override;
  std::uint64_t punched_bytes() const { return punched_bytes_; }  ///< that the host took back

 private:
  Awaitable<void> change(Awaitable<void> step);
  Awaitable<bool> try_write(FileOffset at, std::span<const Bytes> pieces);
  Awaitable<void> write_patiently(FileOffset at, std::span<const Bytes> pieces);

  BlockFile& file_;
  FailStop& health_;
  bool patient_ = false;
  std::uint64_t punched_bytes_ = 0;
  std::size_t waiting_ = 0;   // for space
  std::size_t retrying_ = 0;  // had waited, and try once more
  WaitList space_;
  WaitList retried_;
};

/// The file system has no room, or the owner's share of it is used up.
bool means_no_space(const ErrorCode& code);

}  // namespace core
