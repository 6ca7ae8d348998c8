#include "qcow2/host/block_use.h"

#include <algorithm>
#include <bit>

#include "core/alignment.h"

namespace qcow2 {
namespace {

constexpr unsigned count_max = 15;               // and it stays there: who goes beyond is not counted
constexpr std::uint64_t blocks_per_group = 256;  // so many are looked at to find a run in a group that has one

// Whoever stores a fragment knows its last byte, whoever reads an entry only the last sector. Both must count the same,
// or the sum would drift with each overwrite: to the middle of the last sector.
std::uint64_t bytes_of(const HostExtent& fragment) {
  const std::uint64_t end = core::align_up(fragment.at.value + fragment.length, sector_size);
  return end - fragment.at.value - std::min(sector_size / 2, end - fragment.at.value - 1);
}

}  // namespace

BlockUse::BlockUse(const Geometry& geometry, std::uint64_t block)
    : geometry_(geometry),
      block_(block),
      per_cluster_(geometry.cluster_size() / block),
      per_group_(std::max<std::uint64_t>(1, blocks_per_group / std::max<std::uint64_t>(1, per_cluster_))) {}

void BlockUse::set_count(std::uint64_t block, unsigned count) {
  const unsigned shift = block % 2 * 4;
  Page& page = counts_[block / page_blocks];
  if (!page && count == 0) return;
  if (!page) {
    page = std::make_unique<std::uint8_t[]>(page_blocks / 2);
    ++pages_;
  }
  std::uint8_t& pair = page[block % page_blocks / 2];
  pair = static_cast<std::uint8_t>((pair & ~(0xf << shift)) | count << shift);
}

// An eighth more than before at least, so that a growing file does not cost a copy each time.
void BlockUse::cover(std::uint64_t wanted) {
  if (wanted <= clusters()) return;
  const std::uint64_t size = core::align_up(std::max(wanted, clusters() + clusters() / 8), per_group_);
  counts_.resize(core::divide_up(size * per_cluster_, page_blocks));
  may_be_backed_.resize(size);
  const std::uint64_t leaves = std::bit_ceil(size / per_group_);
  if (leaves <= groups()) return;
  std::vector<std::uint16_t> tree(2 * leaves);
  std::copy_n(longest_.begin() + static_cast<std::ptrdiff_t>(groups()), groups(),
              tree.begin() + static_cast<std::ptrdiff_t>(leaves));
  for (std::uint64_t node = leaves - 1; node != 0; --node) tree[node] = std::max(tree[2 * node], tree[2 * node + 1]);
  longest_ = std::move(tree);
}

template <typename Change>
bool BlockUse::change(HostExtent fragment, Change change) {
  bool touched_before = false;
  const HostClusters touched = geometry_.clusters_touched(fragment);
  const std::uint64_t end = (fragment.at.value + fragment.length - 1) / block_ + 1;
  std::uint64_t block = fragment.at.value / block_;
  for (std::uint64_t i = 0; i < touched.count; ++i) {
    const std::uint64_t cluster = touched.first.value + i;
    const Dead before = dead_of(cluster);
    for (; block < std::min(end, (cluster + 1) * per_cluster_); ++block) {
      const unsigned known = count(block);
      touched_before |= known != 0;
      if (known == count_max) continue;
      set_count(block, change(known));
      touched_blocks_ += (count(block) != 0 ? 1 : 0) - (known != 0 ? 1 : 0);
    }
    account(cluster, before);
  }
  return touched_before;
}

std::uint64_t BlockUse::clusters_up_to(HostExtent fragment) const {
  const HostClusters touched = geometry_.clusters_touched(fragment);
  return touched.first.value + touched.count;
}

void BlockUse::add(HostExtent fragment) {
  if (per_cluster_ <= 1) return;
  cover(clusters_up_to(fragment));
  change(fragment, [](unsigned count) { return count + 1; });
  ++fragments_;
  fragment_bytes_ += bytes_of(fragment);
}

// What was never added may lie anywhere that an entry can name: it must not cost memory.
void BlockUse::remove(HostExtent fragment) {
  if (clusters_up_to(fragment) > clusters()) return;
  const bool was_added = change(fragment, [](unsigned count) { return count - (count != 0 ? 1 : 0); });
  if (!was_added) return;
  fragments_ -= std::min<std::uint64_t>(fragments_, 1);
  fragment_bytes_ -= std::min(fragment_bytes_, bytes_of(fragment));
  const HostClusters touched = geometry_.clusters_touched(fragment);
  for (std::uint64_t i = 0; i < touched.count; ++i) backed(touched.first + i);
}

void BlockUse::freed(HostCluster cluster) {
  if (cluster.value >= clusters()) return;
  const Dead before = dead_of(cluster.value);
  for (std::uint64_t i = 0; i < per_cluster_; ++i) {
    const std::uint64_t block = cluster.value * per_cluster_ + i;
    touched_blocks_ -= count(block) != 0 ? 1 : 0;
    set_count(block, 0);
  }
  account(cluster.value, before);
  given_back(cluster);
}

BlockUse::Run BlockUse::run_from(std::uint64_t cluster, std::uint64_t block) const {
  const std::uint64_t begin = cluster * per_cluster_;
  while (block < per_cluster_ && count(begin + block) != 0) ++block;
  Run run{block, 0};
  while (block + run.count < per_cluster_ && count(begin + block + run.count) == 0) ++run.count;
  return run;
}

BlockUse::Dead BlockUse::dead_of(std::uint64_t cluster) const {
  Dead dead;
  for (Run run = run_from(cluster, 0); run.count != 0; run = run_from(cluster, run.first + run.count)) {
    dead.blocks += run.count;
    dead.longest = std::max(dead.longest, run.count);
  }
  return dead.blocks == per_cluster_ ? Dead{} : dead;  // without a fragment it is not dead
}

void BlockUse::account(std::uint64_t cluster, const Dead& before) {
  const Dead now = dead_of(cluster);
  dead_blocks_ += now.blocks - before.blocks;
  const std::uint64_t group = cluster / per_group_;
  const std::uint64_t known = longest_[groups() + group];
  if (now.longest >= known) return set_longest(group, now.longest);
  if (before.longest < known) return;  // another cluster has the longest
  std::uint64_t longest = 0;
  const std::uint64_t first = group * per_group_;
  for (std::uint64_t i = 0; i < per_group_; ++i) longest = std::max(longest, dead_of(first + i).longest);
  set_longest(group, longest);
}

void BlockUse::set_longest(std::uint64_t group, std::uint64_t longest) {
  std::uint64_t node = groups() + group;
  longest_[node] = static_cast<std::uint16_t>(longest);
  for (node /= 2; node != 0; node /= 2) {
    const std::uint16_t maximum = std::max(longest_[2 * node], longest_[2 * node + 1]);
    if (longest_[node] == maximum) return;
    longest_[node] = maximum;
  }
}

std::uint64_t BlockUse::find_group(std::uint64_t blocks) const {
  if (groups() == 0) return 0;
  std::uint64_t node = 1;
  if (longest_[node] < blocks) return groups();
  while (node < groups()) {
    node *= 2;
    if (longest_[node] < blocks) ++node;
  }
  return node - groups();
}

HostExtent BlockUse::extent_of(std::uint64_t cluster, Run run) const {
  const std::uint64_t first = cluster * per_cluster_ + run.first;
  return {HostOffset{first * block_}, run.count * block_};
}

std::optional<HostExtent> BlockUse::find_run(std::uint64_t bytes) const {
  const std::uint64_t blocks = core::divide_up(bytes, block_);
  const std::uint64_t group = find_group(blocks);
  if (group == groups()) return std::nullopt;
  std::uint64_t cluster = group * per_group_;
  while (dead_of(cluster).longest < blocks) ++cluster;
  Run run = run_from(cluster, 0);
  while (run.count < blocks) run = run_from(cluster, run.first + run.count);
  return extent_of(cluster, run);
}

std::vector<HostExtent> BlockUse::dead_runs(HostCluster cluster) const {
  std::vector<HostExtent> runs;
  if (dead_bytes(cluster) == 0) return runs;
  for (Run run = run_from(cluster.value, 0); run.count != 0; run = run_from(cluster.value, run.first + run.count)) {
    runs.push_back(extent_of(cluster.value, run));
  }
  return runs;
}

std::uint64_t BlockUse::dead_bytes(HostCluster cluster) const {
  return cluster.value < clusters() ? dead_of(cluster.value).blocks * block_ : 0;
}

// Where fragments lie one behind the other, each block is touched by one more than begin in it, on average.
BlockUse::Touched BlockUse::touched(HostCluster cluster) const {
  Touched touched;
  if (cluster.value >= clusters() || fragments_ == 0) return touched;
  std::uint64_t touches = 0;
  for (std::uint64_t i = 0; i < per_cluster_; ++i) {
    const unsigned known = count(cluster.value * per_cluster_ + i);
    touches += known;
    touched.bytes += known != 0 ? block_ : 0;
  }
  const double length = static_cast<double>(fragment_bytes_) / static_cast<double>(fragments_);
  const double dense = 1 + static_cast<double>(block_) / length;
  const double live = static_cast<double>(touches * block_) / dense;
  touched.live = std::min(touched.bytes, static_cast<std::uint64_t>(live));
  return touched;
}

std::optional<HostCluster> BlockUse::next_backed(HostCluster from) const {
  if (from.value >= clusters()) return std::nullopt;
  const std::size_t found = may_be_backed_.test(from.value) ? from.value : may_be_backed_.find_next(from.value);
  if (found == boost::dynamic_bitset<>::npos) return std::nullopt;
  return HostCluster{found};
}

void BlockUse::backed(HostCluster cluster) {
  if (cluster.value < clusters() && dead_bytes(cluster) != 0) may_be_backed_.set(cluster.value);
}

void BlockUse::given_back(HostCluster cluster) {
  if (cluster.value < clusters()) may_be_backed_.reset(cluster.value);
}

std::uint64_t BlockUse::memory() const {
  return pages_ * page_blocks / 2 + counts_.capacity() * sizeof(counts_[0]) +
         longest_.capacity() * sizeof(longest_[0]) + may_be_backed_.capacity() / 8;
}

}  // namespace qcow2
