// How many references were found to each host cluster of an image.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Memory   Two bytes a cluster, and only for those parts of the file that something refers to; less than a hundred for
///          a reference far from all others. The few counts that do not fit into two bytes stand aside.
/// Threads  One at a time.
class ReferenceCounts {
 public:
  /// Of clusters [0, clusters). A count does not rise above `count_max`: what the image's own width can hold.
  ReferenceCounts(std::uint64_t clusters, std::uint64_t count_max);

  std::uint64_t clusters() const { return clusters_; }
  std::uint64_t get(HostCluster cluster) const;
  /// Adds one. False where the count is at its maximum, and stays there. A cluster beyond the end extends it.
  bool add(HostCluster cluster) { return add(cluster, 1) == 1; }
  /// Adds several at once, and returns how many of them were counted.
  std::uint64_t add(HostCluster cluster, std::uint64_t times);
  /// The first cluster from `from` on, before `end`, that may have been counted; `end` where there is none.
  HostCluster next_candidate(HostCluster from, HostCluster end) const;
  HostCluster next_candidate(HostCluster from) const { return next_candidate(from, {clusters_}); }

 private:
  static constexpr std::uint64_t chunk_counts = 1 << 14;
  static constexpr std::size_t few_max = 512;
  static constexpr std::uint16_t stands_aside = 0xffff;

  struct Counted {
    std::uint16_t place = 0;  // in the chunk
    std::uint16_t count = 0;
  };
  // Of chunk_counts clusters: those that were counted, by place, until they are too many.
  struct Chunk {
    std::vector<Counted> few;
    std::unique_ptr<std::uint16_t[]> all;

    std::uint16_t get(std::uint16_t place) const;
    std::uint16_t& slot(std::uint16_t place);
    std::uint64_t next(std::uint64_t place) const;  // chunk_counts where there is none
  };

  std::uint16_t& slot(HostCluster cluster);

  std::uint64_t clusters_;
  std::uint64_t count_max_;
  std::vector<Chunk> chunks_;
  std::unordered_map<std::uint64_t, std::uint64_t> large_;  // by cluster
};

}  // namespace qcow2
