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

std::uint64_t ReferenceCounts::add(HostCluster cluster, std::uint64_t times) {
  std::uint16_t& count = slot(cluster);
  const std::uint64_t before = count == stands_aside ? large_.at(cluster.value) : count;
  const std::uint64_t counted = std::min(times, count_max_ - before);
  if (before + counted < stands_aside) {
    count = static_cast<std::uint16_t>(before + counted);
  } else {
    large_[cluster.value] = before + counted;
    count = stands_aside;
  }
  return counted;
}

HostCluster ReferenceCounts::next_candidate(HostCluster from) const {
  std::uint64_t at = from.value;
  while (at < clusters_ && !chunks_[at / chunk_counts]) at = (at / chunk_counts + 1) * chunk_counts;
  return {std::min(at, clusters_)};
}

}  // namespace qcow2
