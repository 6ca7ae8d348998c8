#include "qcow2/offline/reference_counts.h"

#include <algorithm>

#include "core/alignment.h"

namespace qcow2 {

ReferenceCounts::ReferenceCounts(std::uint64_t clusters, std::uint64_t count_max)
    : clusters_(clusters), count_max_(count_max), chunks_(core::divide_up(clusters, chunk_counts)) {}

std::uint16_t ReferenceCounts::Chunk::get(std::uint16_t place) const {
  if (all) return all[place];
  const auto found = std::ranges::lower_bound(few, place, {}, &Counted::place);
  return found != few.end() && found->place == place ? found->count : std::uint16_t{0};
}

std::uint16_t& ReferenceCounts::Chunk::slot(std::uint16_t place) {
  if (all) return all[place];
  const auto found = std::ranges::lower_bound(few, place, {}, &Counted::place);
  if (found != few.end() && found->place == place) return found->count;
  if (few.size() < few_max) return few.insert(found, Counted{place, 0})->count;
  all = std::make_unique<std::uint16_t[]>(chunk_counts);
  for (const Counted& counted : few) all[counted.place] = counted.count;
  few = {};
  return all[place];
}

std::uint64_t ReferenceCounts::Chunk::next(std::uint64_t place) const {
  if (all) return place;
  const auto found = std::ranges::lower_bound(few, place, {}, &Counted::place);
  return found == few.end() ? chunk_counts : found->place;
}

std::uint64_t ReferenceCounts::get(HostCluster cluster) const {
  if (cluster.value >= clusters_) return 0;
  const std::uint16_t count =
      chunks_[cluster.value / chunk_counts].get(static_cast<std::uint16_t>(cluster.value % chunk_counts));
  return count == stands_aside ? large_.at(cluster.value) : count;
}

std::uint16_t& ReferenceCounts::slot(HostCluster cluster) {
  if (cluster.value >= clusters_) {
    clusters_ = cluster.value + 1;
    chunks_.resize(core::divide_up(clusters_, chunk_counts));
  }
  return chunks_[cluster.value / chunk_counts].slot(static_cast<std::uint16_t>(cluster.value % chunk_counts));
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

HostCluster ReferenceCounts::next_candidate(HostCluster from, HostCluster end) const {
  const std::uint64_t chunks_end = core::divide_up(std::min(end.value, clusters_), chunk_counts);
  std::uint64_t place = from.value % chunk_counts;
  for (std::uint64_t chunk = from.value / chunk_counts; chunk < chunks_end; ++chunk, place = 0) {
    const std::uint64_t next = chunks_[chunk].next(place);
    if (next < chunk_counts) return std::min(HostCluster{chunk * chunk_counts + next}, end);
  }
  return end;
}

}  // namespace qcow2
