#include "qcow2/host/block_use.h"

#include <algorithm>
#include <bit>

#include "core/alignment.h"

namespace qcow2 {
namespace {

constexpr unsigned count_max = 15;  // and it stays there: who goes beyond is not counted

}  // namespace

BlockUse::BlockUse(const Geometry& geometry, std::uint64_t block)
    : geometry_(geometry), block_(block), per_cluster_(geometry.cluster_size() / block) {}

void BlockUse::set_count(std::uint64_t block, unsigned count) {
  const unsigned shift = block % 2 * 4;
  std::uint8_t& pair = counts_[block / 2];
  pair = static_cast<std::uint8_t>((pair & ~(0xf << shift)) | count << shift);
}

// Twice as many clusters whenever there are more than before.
void BlockUse::cover(std::uint64_t wanted) {
  if (wanted <= clusters()) return;
  const std::uint64_t size = std::bit_ceil(std::max<std::uint64_t>(wanted, 64));
  counts_.resize(size * per_cluster_ / 2);
  std::vector<std::uint16_t> tree(2 * size);
  std::copy_n(longest_.begin() + static_cast<std::ptrdiff_t>(clusters()), clusters(),
              tree.begin() + static_cast<std::ptrdiff_t>(size));
  for (std::uint64_t node = size - 1; node != 0; --node) tree[node] = std::max(tree[2 * node], tree[2 * node + 1]);
  longest_ = std::move(tree);
  dead_.resize(size);
}

template <typename Change>
void BlockUse::change(HostExtent fragment, Change change) {
  const HostClusters touched = geometry_.clusters_touched(fragment);
  const std::uint64_t last = (fragment.at.value + fragment.length - 1) / block_;
  for (std::uint64_t block = fragment.at.value / block_; block <= last; ++block) {
    if (count(block) != count_max) set_count(block, change(count(block)));
  }
  for (std::uint64_t i = 0; i < touched.count; ++i) look_anew(touched.first.value + i);
}

std::uint64_t BlockUse::clusters_up_to(HostExtent fragment) const {
  const HostClusters touched = geometry_.clusters_touched(fragment);
  return touched.first.value + touched.count;
}

void BlockUse::add(HostExtent fragment) {
  if (per_cluster_ <= 1) return;
  cover(clusters_up_to(fragment));
  change(fragment, [](unsigned count) { return count + 1; });
}

// What was never added may lie anywhere that an entry can name: it must not cost memory.
void BlockUse::remove(HostExtent fragment) {
  if (clusters_up_to(fragment) > clusters()) return;
  change(fragment, [](unsigned count) { return count - (count != 0 ? 1 : 0); });
}

void BlockUse::freed(HostCluster cluster) {
  if (cluster.value >= clusters()) return;
  for (std::uint64_t i = 0; i < per_cluster_; ++i) set_count(cluster.value * per_cluster_ + i, 0);
  look_anew(cluster.value);
}

BlockUse::Run BlockUse::run_from(std::uint64_t cluster, std::uint64_t block) const {
  const std::uint64_t begin = cluster * per_cluster_;
  while (block < per_cluster_ && count(begin + block) != 0) ++block;
  Run run{block, 0};
  while (block + run.count < per_cluster_ && count(begin + block + run.count) == 0) ++run.count;
  return run;
}

void BlockUse::look_anew(std::uint64_t cluster) {
  std::uint64_t dead = 0;
  std::uint64_t longest = 0;
  for (Run run = run_from(cluster, 0); run.count != 0; run = run_from(cluster, run.first + run.count)) {
    dead += run.count;
    longest = std::max(longest, run.count);
  }
  if (dead == per_cluster_) dead = longest = 0;  // no fragment
  dead_blocks_ += dead - dead_[cluster];
  dead_[cluster] = static_cast<std::uint16_t>(dead);
  std::uint64_t node = clusters() + cluster;
  longest_[node] = static_cast<std::uint16_t>(longest);
  for (node /= 2; node != 0; node /= 2) longest_[node] = std::max(longest_[2 * node], longest_[2 * node + 1]);
}

std::uint64_t BlockUse::find_cluster(std::uint64_t from, std::uint64_t blocks) const {
  if (from >= clusters()) return clusters();
  std::uint64_t node = clusters() + from;
  while (longest_[node] < blocks) {
    while (node % 2 == 1) {  // a right child: what is behind it hangs from further up
      if (std::has_single_bit(node + 1)) return clusters();
      node /= 2;
    }
    ++node;
  }
  while (node < clusters()) {
    node *= 2;
    if (longest_[node] < blocks) ++node;
  }
  return node - clusters();
}

HostExtent BlockUse::extent_of(std::uint64_t cluster, Run run) const {
  const std::uint64_t first = cluster * per_cluster_ + run.first;
  return {HostOffset{first * block_}, run.count * block_};
}

std::optional<HostExtent> BlockUse::find_run(std::uint64_t bytes) const {
  const std::uint64_t blocks = core::divide_up(bytes, block_);
  const std::uint64_t cluster = find_cluster(0, blocks);
  if (cluster == clusters()) return std::nullopt;
  Run run = run_from(cluster, 0);
  while (run.count < blocks) run = run_from(cluster, run.first + run.count);
  return extent_of(cluster, run);
}

std::optional<HostExtent> BlockUse::next_run(HostOffset from) const {
  if (per_cluster_ <= 1) return std::nullopt;
  const std::uint64_t block = core::divide_up(from.value, block_);
  std::uint64_t cluster = block / per_cluster_;
  std::uint64_t within = block % per_cluster_;
  for (; (cluster = find_cluster(cluster, 1)) != clusters(); ++cluster, within = 0) {
    if (cluster != block / per_cluster_) within = 0;
    const Run run = run_from(cluster, within);
    if (run.count != 0) return extent_of(cluster, run);
  }
  return std::nullopt;
}

}  // namespace qcow2
