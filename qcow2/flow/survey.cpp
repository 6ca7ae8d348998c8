#include "qcow2/flow/survey.h"

#include <boost/dynamic_bitset.hpp>

#include "qcow2/format/table_entries.h"

namespace qcow2 {
namespace {

class Survey {
 public:
  Survey(const Geometry& geometry, std::uint64_t file_size, BlockUse& block_use)
      : geometry_(geometry), file_size_(file_size), block_use_(block_use), whole_(geometry.host_clusters(file_size)) {}

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
      if (fragment.at.value < file_size_) block_use_.add(fragment);
    }
  }

  void finish(SpaceReserve& space) {
    for (std::size_t at = whole_.find_first(); at != whole_.npos; at = whole_.find_next(at)) {
      block_use_.freed(HostCluster{at});
    }
    for (HostCluster cluster{0}; cluster < block_use_.end(); cluster = cluster + 1) {
      if (block_use_.dead_bytes(cluster) != 0) space.has_holes(cluster);
    }
  }

 private:
  Geometry geometry_;
  std::uint64_t file_size_;
  BlockUse& block_use_;
  boost::dynamic_bitset<> whole_;  // clusters that are tables, or standard clusters
};

}  // namespace

core::Awaitable<void> survey(core::BlockFile& file, std::vector<HostOffset> tables, Geometry geometry,
                             BlockUse& block_use, SpaceReserve& space) {
  Survey found(geometry, file.size(), block_use);
  core::Buffer table(geometry.cluster_size());
  found.add_whole(HostOffset{0});
  for (const HostOffset at : tables) {
    if (at.value == 0) continue;
    co_await file.read_at(at, table.span());
    found.add_whole(at);
    found.add_table(table.span());
  }
  found.finish(space);
}

}  // namespace qcow2
