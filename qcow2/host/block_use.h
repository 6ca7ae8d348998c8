// Which blocks of the image hold bytes of a compressed fragment, and where there is room among them.
#pragma once

#include <algorithm>
#include <boost/dynamic_bitset.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "qcow2/format/geometry.h"

namespace qcow2 {

/// A host cluster with fragments is free only when the last of them has died. Until then its blocks that no living
/// fragment touches are dead: nothing durable is in them, so they may be written again, or given back to the host.
/// Clusters without fragments (free ones, tables, standard clusters) have no dead blocks. Clusters no larger than a
/// block are not tracked.
///
/// Units      Blocks are what is written whole: `block` bytes.
/// Memory     Little more than half a byte for each block of the file, of those parts of it that have fragments; of the
///            others, which may be a hole of terabytes, some bits for each cluster: memory(). A block that had fifteen
///            fragments at once counts as touched until its cluster is free.
/// Threads    The engine's strand.
class BlockUse {
 public:
  BlockUse(const Geometry& geometry, std::uint64_t block);

  void add(HostExtent fragment);
  /// Its last name is durably gone, and so are its readers. One that was not added changes nothing in a cluster that
  /// has none that were.
  void remove(HostExtent fragment);
  /// Nothing refers to the cluster any more.
  void freed(HostCluster cluster);

  /// The first dead blocks in a row, within one cluster, that have room for `bytes`.
  std::optional<HostExtent> find_run(std::uint64_t bytes) const;
  /// All dead blocks of a cluster.
  std::vector<HostExtent> dead_runs(HostCluster cluster) const;
  std::uint64_t dead_bytes(HostCluster cluster) const;
  std::uint64_t dead_bytes() const { return dead_blocks_ * block_; }
  /// Bytes of the blocks that living fragments touch, and about how many of them are theirs: of a cluster, of all.
  struct Touched {
    std::uint64_t bytes = 0;
    std::uint64_t live = 0;
    std::uint64_t waste() const { return bytes - live; }
  };
  Touched touched(HostCluster cluster) const;
  Touched touched() const { return {touched_blocks_ * block_, std::min(fragment_bytes_, touched_blocks_ * block_)}; }
  /// Clusters at or behind this have no fragment.
  HostCluster end() const { return {clusters()}; }

  /// The first cluster from `from` on whose dead blocks may still take space on the host.
  std::optional<HostCluster> next_backed(HostCluster from) const;
  /// The dead blocks of the cluster may take space on the host again, or do no longer.
  void backed(HostCluster cluster);
  void given_back(HostCluster cluster);

  std::uint64_t memory() const;  ///< bytes

 private:
  struct Run {
    std::uint64_t first = 0;  ///< block within the cluster
    std::uint64_t count = 0;
  };
  struct Dead {
    std::uint64_t blocks = 0;
    std::uint64_t longest = 0;  ///< of them in a row
  };

  static constexpr std::uint64_t page_blocks = 1 << 13;
  using Page = std::unique_ptr<std::uint8_t[]>;  // two blocks a byte

  unsigned count(std::uint64_t block) const {
    const Page& page = counts_[block / page_blocks];
    return page ? page[block % page_blocks / 2] >> (block % 2 * 4) & 0xf : 0;
  }
  void set_count(std::uint64_t block, unsigned count);
  /// Whether anything touched one of its blocks before.
  template <typename Change>
  bool change(HostExtent fragment, Change change);
  std::uint64_t clusters_up_to(HostExtent fragment) const;  ///< and with those that it touches
  void cover(std::uint64_t clusters);
  void account(std::uint64_t cluster, const Dead& before);
  Dead dead_of(std::uint64_t cluster) const;
  Run run_from(std::uint64_t cluster, std::uint64_t block) const;
  HostExtent extent_of(std::uint64_t cluster, Run run) const;
  void set_longest(std::uint64_t group, std::uint64_t longest);
  /// The first group with a dead run of `blocks`, or groups() where there is none.
  std::uint64_t find_group(std::uint64_t blocks) const;
  std::uint64_t clusters() const { return may_be_backed_.size(); }
  std::uint64_t groups() const { return longest_.size() / 2; }

  Geometry geometry_;
  std::uint64_t block_;
  std::uint64_t per_cluster_;           ///< blocks; 1 or less where nothing is tracked
  std::uint64_t per_group_;             ///< clusters
  std::vector<Page> counts_;            ///< fragments that touch each block; no page where there are none
  std::uint64_t pages_ = 0;             ///< that there are
  std::vector<std::uint16_t> longest_;  ///< a tree of maxima over the groups' longest dead runs, root at 1
  boost::dynamic_bitset<> may_be_backed_;
  std::uint64_t dead_blocks_ = 0;
  std::uint64_t touched_blocks_ = 0;
  std::uint64_t fragments_ = 0;       ///< that live
  std::uint64_t fragment_bytes_ = 0;  ///< theirs
};

}  // namespace qcow2
