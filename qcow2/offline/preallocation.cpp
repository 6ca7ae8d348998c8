#include "qcow2/offline/preallocation.h"

#include <algorithm>

namespace qcow2 {

bool reserves_more_than_it_holds(const ReadOnlyFile& file, const Header& header, StoredRefcounts& stored) {
  const std::uint64_t held = file.allocated_size() / header.geometry.cluster_size();
  const std::uint64_t suspicious = std::max(held * 10 / 9, held + 2);
  const HostCluster end{header.geometry.host_clusters(file.size())};
  std::uint64_t used = 0;
  for (HostCluster cluster; cluster < end && used < suspicious; cluster = cluster + 1) {
    if (stored.get(cluster).value_or(0) != 0) ++used;
  }
  return used >= suspicious;
}

}  // namespace qcow2
