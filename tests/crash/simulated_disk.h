// A disk that forgets: a block file in memory that knows every content a power cut could leave behind.
//
// The fault model. What the engine must survive:
//   - Of everything written since the last completed barrier any subset is on the medium after a power cut, sector by
//     sector, whatever the order of submission and completion, and of a sector written several times any of its
//     versions; writes still in flight included.
//   - A barrier makes durable what completed before the barrier was submitted, and nothing else.
//   - The file's length and punched holes are pending operations of their own, kept or lost independently of the bytes.
//   - Operations in flight together complete in any order; a read beside a write sees old or new, sector by sector.
//   - Of a write that fails any subset of its sectors has reached the file.
//   - The way to the disk may be cut for good: all that is under way then, or is begun later, fails.
// What it need not survive: sectors torn inside (a sector is 512 bytes, or 4096 on a disk with such blocks), sectors
// that nobody wrote changing, a barrier that lies, sectors that read back damaged.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/async.h"
#include "core/block_file.h"
#include "tests/crash/seeded_engine.h"

namespace crash {

using Image = std::vector<std::byte>;

/// What the medium holds for sure, and what of it a power cut leaves open. Valid until the disk's next operation.
struct PendingState {
  struct Sector {
    std::uint64_t at = 0;                    ///< byte offset
    std::vector<const std::byte*> versions;  ///< oldest first, each `sector_size` bytes; none equals its predecessor
    std::vector<std::uint64_t> written;      ///< when: the operation's number, for each version
  };
  struct Hole {
    std::uint64_t at = 0;
    std::uint64_t length = 0;
    std::uint64_t punched = 0;
  };
  struct Range {
    std::uint64_t at = 0;
    std::uint64_t length = 0;
  };
  Image* durable = nullptr;  ///< may be longer than the durable length, then with zeros; restore what you change
  std::size_t sector_size = 512;
  std::vector<std::uint64_t> sizes;  ///< possible lengths of the file; the first is the durable one
  std::vector<Sector> sectors;
  std::vector<Hole> holes;
  std::vector<Range> writes;  ///< as they were asked for, since the last barrier took effect
};

/// Threads    The engine's strand.
class SimulatedDisk final : public core::BlockFile {
 public:
  enum class Kind { read, write, barrier, truncate, reserve, punch };
  struct Fault {
    Kind kind = Kind::write;
    std::uint64_t index = 0;  ///< the how-manieth of its kind, from 0
    int error = 0;
    bool persistent = false;  ///< all later ones of the kind fail too, until the faults are cleared
  };

  SimulatedDisk(SeededEngine& engine, std::size_t block_size, std::size_t sector_size, Image content);

  // ---- what the test orders

  /// Called when a barrier is about to take effect.
  void before_barrier(std::function<void()> observer) { observer_ = std::move(observer); }
  void add_fault(const Fault& fault) { faults_.push_back(fault); }
  void clear_faults() { faults_.clear(); }
  /// Bytes that the file system has for the file; blocks that were never written take none.
  void set_capacity(std::uint64_t bytes);
  void lift_capacity() { capacity_ = unlimited; }
  /// The operation with this number, from 0 and of any kind, finds the way to the disk cut.
  void cut_at(std::uint64_t operation) { cut_at_ = operation; }
  /// From now on it is a block device: of the length that it has, for good.
  void be_a_device() { device_ = true; }
  /// Somebody else writes to the file while nobody uses it; durable at once, like everything before it.
  void change_durably(std::uint64_t at, core::Bytes bytes);

  /// The disk as the image gets it: a device is far away, so that some of what is read was read ahead. Borrows the
  /// disk.
  std::shared_ptr<core::BlockFile> opened();

  // ---- what happened

  PendingState pending();
  /// The first breach of BlockFile's contract, or of the rule that nothing is written after a failure; empty for none.
  const std::string& misuse() const { return misuse_; }
  std::uint64_t count(Kind kind) const { return counts_[static_cast<std::size_t>(kind)]; }
  std::uint64_t faults_hit() const { return faults_hit_; }  ///< refusals for want of capacity included
  std::uint64_t operations() const { return operations_; }  ///< of all kinds
  /// A write or a barrier failed, for another reason than want of space.
  bool lost_changes() const { return told_failure_; }
  std::uint64_t writes_without_space() const { return writes_without_space_; }
  std::size_t in_flight() const { return in_flight_.size(); }
  const Image& content() const { return current_; }  ///< of all that completed

  // ---- core::BlockFile

  std::size_t block_size() const override { return block_size_; }
  std::uint64_t size() const override { return current_.size(); }
  std::optional<std::uint64_t> allocated_bytes() const override;
  std::size_t depth() const override { return device_ ? 64 : 4; }
  core::Awaitable<void> read_at(core::FileOffset at, core::MutableBytes target) override;
  using core::BlockFile::write_at;
  core::Awaitable<void> write_at(core::FileOffset at, std::span<const core::Bytes> pieces) override;
  core::Awaitable<void> barrier() override;
  core::Awaitable<void> truncate(std::uint64_t size) override;
  core::Awaitable<bool> reserve(core::FileOffset at, std::uint64_t length) override;
  core::Awaitable<bool> punch(core::FileOffset at, std::uint64_t length) override;

 private:
  static constexpr std::uint64_t never = ~0ull;
  static constexpr std::uint64_t unlimited = ~0ull;
  struct Write {  // blocks on their way
    std::uint64_t at = 0;
    std::shared_ptr<Image> bytes;
    std::uint64_t end() const { return at + bytes->size(); }
  };
  struct Version {
    std::uint64_t operation = 0;
    std::shared_ptr<const Image> bytes;
    std::size_t offset = 0;
  };
  struct Resize {
    std::uint64_t operation = 0;
    std::uint64_t value = 0;
    bool sets = false;  // a truncate; else a write, which only ever extends
  };

  int next_fault(Kind kind);
  bool cut() const { return operations_ > cut_at_; }
  core::Awaitable<void> write_blocks(std::uint64_t at, std::shared_ptr<Image> bytes,
                                     std::span<const core::Bytes> pieces, int error);
  std::uint64_t submit_write(const Write& write);
  std::uint64_t shortest() const;
  void complete_write(std::uint64_t operation);
  void fail_write(std::uint64_t operation);
  bool durable_by(std::uint64_t operation, std::uint64_t moment) const;
  void apply_barrier(std::uint64_t submitted);
  void cut_off(const Resize& resize);
  void read_now(std::uint64_t at, core::MutableBytes target);
  [[noreturn]] void tell_failure(int error, const std::string& sentence);
  bool take_space(std::uint64_t at, std::uint64_t length);
  void give_space_back(std::uint64_t at, std::uint64_t length);
  void breach(const std::string& what);
  void require_within_device(std::uint64_t end) const;
  void grow_to(Image& image, std::uint64_t size) const;

  SeededEngine& engine_;
  std::size_t block_size_;
  std::size_t sector_size_;
  std::function<void()> observer_;
  std::vector<Fault> faults_;
  std::array<std::uint64_t, 6> counts_{};
  std::uint64_t operations_ = 0;
  std::uint64_t cut_at_ = never;
  std::uint64_t faults_hit_ = 0;
  std::uint64_t writes_without_space_ = 0;
  std::uint64_t capacity_ = unlimited;
  bool device_ = false;
  bool told_failure_ = false;  // of a write or a barrier, for another reason than want of space
  std::string misuse_;

  std::uint64_t clock_ = 0;               // counts submissions and completions
  std::vector<std::uint64_t> completed_;  // when, by operation
  Image durable_;
  std::uint64_t durable_size_;
  Image current_;
  std::map<std::uint64_t, std::vector<Version>> versions_;  // by sector
  std::vector<Resize> resizes_;
  std::vector<std::pair<std::uint64_t, PendingState::Hole>> holes_;  // by operation
  std::map<std::uint64_t, Write> in_flight_;                         // by operation
  std::vector<PendingState::Range> asked_;
  std::vector<bool> allocated_;  // by block; empty while the capacity is unlimited
  std::uint64_t allocated_count_ = 0;
  core::AsyncMutex unaligned_;
};

}  // namespace crash
