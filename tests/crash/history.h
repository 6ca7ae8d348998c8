// What the guest did and what it was promised: the values that each sector of the disk may show after a power cut.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "tests/crash/content_hash.h"
#include "tests/crash/image_walker.h"

namespace crash {

/// The rule: a sector shows the value that was current at the last acknowledged flush, or any submitted after it. A
/// flush is acknowledged for what had completed when it started. What was never written is zero. The disk's size
/// follows the same rule, but that a write beyond the end only ever makes the disk larger: of several under way, or
/// failed, any may have done so.
/// A read sees what was current when it began, or anything submitted before it ended.
class History {
 public:
  using Sector = std::array<std::byte, guest_sector>;
  static constexpr std::uint64_t pending = ~0ull;

  /// Every value that a sector may have now; a copy, because the guest goes on.
  struct Allowed {
    struct Entry {
      std::uint64_t sector = 0;
      std::size_t first = 0;  ///< into `values`
      std::size_t count = 0;
    };
    std::vector<Entry> entries;  ///< in the order of the disk
    std::vector<std::uint64_t> values;
    std::set<std::uint64_t> sizes;
    bool knows_beyond = true;  ///< of the disk's end, too, it is known what was written

    /// Empty where the image is one that may be left; else what is wrong.
    std::string judge(const Walk& walk) const;

   private:
    std::string judge_beyond(const Walk& walk, std::uint64_t end) const;
  };

  /// Starts from what an image shows, all of it durable. The twin's bytes are known only by their hashes then. What
  /// lies beyond the disk's end must be zero when it comes to light.
  static History of(const Walk& walk);
  explicit History(std::uint64_t disk_size);

  // Each begins an operation and returns its number, for complete(). Operations under way must not touch the same
  // sectors. Ranges are bytes of any alignment.
  std::uint64_t begin_write(std::uint64_t at, core::Bytes bytes);
  std::uint64_t begin_zero(std::uint64_t at, std::uint64_t length);
  std::uint64_t begin_resize(std::uint64_t size);
  void complete(std::uint64_t operation);

  std::uint64_t begin_flush() { return ++clock_; }
  void complete_flush(std::uint64_t token) { acknowledged_ = std::max(acknowledged_, token); }

  std::uint64_t begin_read();
  void complete_read(std::uint64_t token) { reads_.erase(reads_.find(token)); }
  /// Whether the sector had this value at some time since the read began.
  bool had(std::uint64_t token, std::uint64_t sector, core::Bytes bytes) const;

  std::uint64_t size() const;  ///< in bytes, when all that was submitted has its effect
  Allowed allowed();

 private:
  struct Value {
    std::uint64_t value = 0;
    std::uint64_t operation = 0;
  };
  using Values = std::vector<Value>;
  struct SizeChange {
    enum class Kind { set, at_least };
    Kind kind = Kind::set;
    std::uint64_t size = 0;
    std::uint64_t operation = 0;
    std::uint64_t after(std::uint64_t before) const { return kind == Kind::set ? size : std::max(before, size); }
  };
  struct Track {
    Values values;
    std::unique_ptr<Sector> newest;  // null: zeros, or never written by this guest
    Sector& bytes();
  };

  Track& track(std::uint64_t sector);
  void overwrite(std::uint64_t at, core::Bytes bytes, std::uint64_t operation);
  void change_size(SizeChange::Kind kind, std::uint64_t size, std::uint64_t operation);
  void prune_sizes();
  std::set<std::uint64_t> possible_sizes() const;
  std::uint64_t begin();
  void prune(Values& values) const;
  std::size_t newest_at(const Values& values, std::uint64_t moment) const;

  std::uint64_t clock_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::multiset<std::uint64_t> reads_;    // under way: when they began
  std::vector<std::uint64_t> completed_;  // by operation
  std::map<std::uint64_t, Track> tracks_;
  std::set<std::uint64_t> first_sizes_;  // before the changes
  std::vector<SizeChange> size_changes_;
  bool knows_beyond_ = true;
};

}  // namespace crash
