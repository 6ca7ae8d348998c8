#include "qcow2/offline/reference_counts.h"

#include <algorithm>

#include "core/alignment.h"

namespace qcow2 {

ReferenceCounts::ReferenceCounts(std::uint64_t clusters, std::uint64_t count_max)
    : clusters_(clusters), count_max_(count_max), chunks_(core::divide_up(clusters, chunk_counts)) {}

std::uint64_t ReferenceCounts::get(HostCluster cluster) const {
  if (cluster.value >= clusters_) return 0;
  const Chunk& chunk = chunks_[cluster.value / chunk_counts];
  if (!chunk) return 0;
  const std::uint16_t count = chunk[cluster.value % chunk_counts];
  return count == stands_aside ? large_.at(cluster.value) : count;
}

std::uint16_t& ReferenceCounts::slot(HostCluster cluster) {
  if (cluster.value >= clusters_) {
    clusters_ = cluster.value + 1;
    chunks_.resize(core::divide_up(clusters_, chunk_counts));
  }
  Chunk& chunk = chunks_[cluster.value / chunk_counts];
  if (!chunk) chunk = std::make_unique<std::uint16_t[]>(chunk_counts);
  return chunk[cluster.value % chunk_counts];
}

bool ReferenceCounts::add(HostCluster cluster) {
  std::uint16_t& count = slot(cluster);
  if (count < stands_aside - 1) {
    if (count == count_max_) return false;
    ++count;
    return true;
  }
  if (count < stands_aside) {
    if (count == count_max_) return false;
    large_[cluster.value] = count;
    count = stands_aside;
  }
  std::uint64_t& large = large_[cluster.value];
  if (large == count_max_) return false;
  ++large;
  return true;
}

HostCluster ReferenceCounts::next_candidate(HostCluster from) const {
  std::uint64_t at = from.value;
  while (at < clusters_ && !chunks_[at / chunk_counts]) at = (at / chunk_counts + 1) * chunk_counts;
  return {std::min(at, clusters_)};
}

}  // namespace qcow2
