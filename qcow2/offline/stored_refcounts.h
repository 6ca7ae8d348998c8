// The refcounts as an image stores them.
#pragma once

#include <optional>
#include <vector>

#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// Holds the refcount table (8 MiB at most) and some of the blocks.
/// Ownership  Borrows the file.
/// Errors     Throws what reading the file throws.
/// Threads    One at a time.
class StoredRefcounts {
 public:
  StoredRefcounts(const ReadOnlyFile& file, const Header& header);

  /// 0 where no block has it; nothing where its block is not readable.
  std::optional<std::uint64_t> get(HostCluster cluster);

  /// The first cluster from `from` on, of those before `end`, that is not 0; `end` where there is none. All three are
  /// of one block, which is readable.
  HostCluster next(HostCluster from, HostCluster end);

  /// The words of the table.
  const std::vector<std::uint64_t>& table() const { return table_; }
  std::uint64_t clusters_per_block() const { return geometry_.refcounts_per_block(); }
  /// Where the block lies that table()[index] names; nothing where it names none. An index beyond the table has none.
  std::optional<HostOffset> block(std::uint64_t index) const;
  /// False for an offset that is no cluster's start, or none that any file can have. Behind the end of the file a block
  /// reads as zeros.
  bool is_readable(HostOffset block) const;

 private:
  struct Slot {
    std::uint64_t index = ~0ull;  // in the table
    std::vector<std::byte> bytes;
  };

  const std::vector<std::byte>& load(std::uint64_t index, HostOffset at);

  const ReadOnlyFile& file_;
  Geometry geometry_;
  std::vector<std::uint64_t> table_;
  std::vector<Slot> slots_;  // a block's place follows from its index
};

/// A refcount table entry: bits 0..8 are reserved, all others are the offset.
inline constexpr std::uint64_t refcount_entry_reserved_mask = 511;

}  // namespace qcow2
