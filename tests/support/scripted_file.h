// A block file in memory that does what the test says: holds operations back, fails them, does half of them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"

namespace test {

/// Claim      It is what DirectFile is to its callers, and it sees what they may not do: fault() names writes
///            that overlapped in time and in blocks, and memory that changed while it was being written.
/// Method     Bytes are copied on the engine's pool, as DirectFile does, so that TSan sees the same accesses.
/// Threads    The engine's executor.
class ScriptedFile final : public core::BlockFile {
 public:
  enum class Kind { read, write, barrier, truncate, reserve, punch };

  struct Operation {
    Kind kind = Kind::read;
    std::uint64_t at = 0;
    std::uint64_t length = 0;
    std::size_t pieces = 0;
    bool aligned = true;  ///< offset, length and memory to whole blocks: no read-modify-write
    bool done = false;
    int error = 0;  ///< errno it was failed with
    std::uint64_t end() const { return at + length; }
  };

  explicit ScriptedFile(core::Engine& engine, std::size_t block_size = 512)
      : engine_(engine), block_size_(block_size) {}

  // ---- the script

  /// From now on operations of this kind wait, before they touch anything, to be released.
  void hold(Kind kind) { holds_[kind] = true; }
  /// Lets the oldest operation go that is held; false where there is none.
  bool release_one(Kind kind);
  /// Holds no more; what is held stays held.
  void hold_no_more(Kind kind) { holds_[kind] = false; }
  /// Lets all go that are held, and holds no more.
  void release(Kind kind);
  /// The `index`-th operation of this kind, from 0 and counting those before, fails with `error_number`; of a
  /// write the first `done_bytes` reach the file all the same.
  void fail(Kind kind, std::size_t index, int error_number, std::uint64_t done_bytes = 0);
  void set_content(std::uint64_t at, core::Bytes bytes);

  // ---- what happened

  const std::vector<Operation>& operations() const { return operations_; }  ///< in the order they were called
  std::vector<Operation> operations(Kind kind) const;
  std::size_t count(Kind kind) const;
  std::size_t held(Kind kind) const;
  std::size_t running_writes() const { return running_.size(); }  ///< held ones count
  std::size_t running_writes_max() const { return running_max_; }
  const std::string& fault() const { return fault_; }  ///< the first seen; empty for none
  std::vector<std::byte> content(std::uint64_t at, std::uint64_t length) const;
  bool content_is(std::uint64_t at, core::Bytes bytes) const;

  // ---- core::BlockFile

  std::size_t block_size() const override { return block_size_; }
  std::uint64_t size() const override { return size_; }
  std::optional<std::uint64_t> allocated_bytes() const override { return size_; }
  core::Awaitable<void> read_at(core::FileOffset at, core::MutableBytes target) override;
  using core::BlockFile::write_at;
  core::Awaitable<void> write_at(core::FileOffset at, std::span<const core::Bytes> pieces) override;
  core::Awaitable<void> barrier() override;
  core::Awaitable<void> truncate(std::uint64_t size) override;
  core::Awaitable<bool> reserve(core::FileOffset at, std::uint64_t length) override;
  core::Awaitable<bool> punch(core::FileOffset at, std::uint64_t length) override;

 private:
  struct Failure {
    int error_number = 0;
    std::uint64_t done_bytes = 0;
  };

  std::size_t begin(const Operation& operation);
  core::Awaitable<std::optional<Failure>> pass_gate(Kind kind);
  core::Awaitable<void> write_blocks(std::size_t operation, std::span<const core::Bytes> pieces);
  [[noreturn]] void fail_operation(std::size_t operation, int error_number);
  void note_overlaps(std::size_t operation);
  void note_fault(const std::string& what);
  bool memory_aligned(std::span<const core::Bytes> pieces) const;
  void store(std::uint64_t at, core::Bytes bytes);
  void load(std::uint64_t at, core::MutableBytes target) const;
  void clear(std::uint64_t from, std::uint64_t to);

  core::Engine& engine_;
  std::size_t block_size_;
  std::uint64_t size_ = 0;
  mutable std::mutex memory_mutex_;                        // jobs of several operations may copy at once
  std::map<std::uint64_t, std::vector<std::byte>> pages_;  // by their number; what is not there reads as zeros

  std::map<Kind, bool> holds_;
  std::map<Kind, core::WaitList> held_;
  std::map<Kind, std::size_t> held_count_;
  std::map<Kind, std::size_t> begun_;
  std::map<std::pair<Kind, std::size_t>, Failure> failures_;
  std::vector<Operation> operations_;
  std::vector<std::size_t> running_;  // writes that have begun, by their place in operations_
  std::size_t running_max_ = 0;
  std::string fault_;
  core::AsyncMutex unaligned_;
};

}  // namespace test
