#include "qcow2/flow/survey.h"

#include <algorithm>
#include <boost/dynamic_bitset.hpp>

#include "qcow2/format/table_entries.h"

namespace qcow2 {
namespace {

class Survey {
 public:
  Survey(const Geometry& geometry, std::uint64_t end, BlockUse& block_use)
      : geometry_(geometry), block_use_(block_use), whole_(geometry.host_clusters(end)) {}

  void add_whole(HostOffset at) {
    const HostCluster cluster = geometry_.cluster_of(at);
    if (cluster.value < whole_.size()) whole_.set(cluster.value);
  }

  void add_table(core::Bytes table) {
    for (std::uint64_t i = 0; i < geometry_.l2_entries(); ++i) {
      const L2Entry entry = load_l2_entry(table, i, geometry_);
      if ((entry.word & l2_entry_compressed) == 0) {
        add_whole(HostOffset{entry.word & entry_offset_mask});
        continue;
      }
      const HostExtent fragment = compressed_extent(entry.word, geometry_);
      if (geometry_.cluster_of(fragment.at).value < whole_.size()) block_use_.add(fragment);
    }
  }

  void finish() {
    for (std::size_t at = whole_.find_first(); at != whole_.npos; at = whole_.find_next(at)) {
      block_use_.freed(HostCluster{at});
    }
    // Of those that a fragment reaches into from below nobody knows what else is in them.
    for (HostCluster cluster{whole_.size()}; cluster < block_use_.end(); cluster = cluster + 1) {
      block_use_.freed(cluster);
    }
  }

 private:
  Geometry geometry_;
  BlockUse& block_use_;
  boost::dynamic_bitset<> whole_;  // clusters that are tables, or standard clusters
};

}  // namespace

core::Awaitable<void> survey(core::BlockFile& file, std::vector<HostOffset> tables, Geometry geometry,
                             std::uint64_t end, BlockUse& block_use) {
  Survey found(geometry, std::min(end, file.size()), block_use);
  core::Buffer table(geometry.cluster_size());
  found.add_whole(HostOffset{0});
  for (const HostOffset at : tables) {
    if (at.value == 0) continue;
    co_await file.read_at(at, table.span());
    found.add_whole(at);
    found.add_table(table.span());
  }
  found.finish();
}

}  // namespace qcow2
