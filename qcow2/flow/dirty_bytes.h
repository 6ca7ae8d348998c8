// What the guest wrote of one cluster: pages as they come until they are half of it, then one buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/bytes.h"
#include "qcow2/host/range_set.h"

namespace qcow2 {

using ByteRange = RangeSet::Range;  ///< bytes within one guest cluster

/// Small writes all over a disk take little more memory than their own bytes, so many of them can wait for neighbours.
/// Units      Bytes within the cluster.
/// Threads    One at a time; once nobody changes it, any number may read.
class DirtyBytes {
 public:
  explicit DirtyBytes(std::uint64_t cluster_size) : cluster_size_(cluster_size) {}

  /// A whole cluster is kept as it is, anything less is copied.
  void write(std::uint64_t within, core::SharedBytes bytes);
  void write_zeros(ByteRange range);
  /// Takes over what `older` knows and this does not.
  void add_below(const DirtyBytes& older);

  bool complete() const { return known_.covers({0, cluster_size_}); }
  std::vector<ByteRange> missing(ByteRange range) const { return known_.missing(range); }
  /// Copies what is known of `range` to `target`, which is as long as `range`.
  void copy_known(ByteRange range, core::MutableBytes target) const;
  /// The whole cluster: over `base` (zeros where there is none) what is known. Nothing is copied where all is.
  core::SharedBytes over(const std::optional<core::SharedBytes>& base) const;

  /// What is held for the content.
  std::uint64_t memory() const;

 private:
  struct Page {
    std::uint64_t number;  // within the cluster
    std::unique_ptr<std::byte[]> bytes;
  };

  /// Calls visit(memory, part) for each stretch of `range` that lies in one piece.
  template <typename Visit>
  void visit_stored(ByteRange range, Visit visit) const;
  void make_room(ByteRange range);
  std::vector<Page>::iterator page(std::uint64_t number);
  void join_pages();

  std::uint64_t cluster_size_;
  RangeSet known_;
  std::vector<Page> pages_;               // ascending, while there is no buffer
  std::shared_ptr<core::Buffer> buffer_;  // in their stead
  core::SharedBytes payload_;             // in the stead of both: one write brought all
};

}  // namespace qcow2
