#include "qcow2/offline/preallocation.h"

#include <algorithm>

namespace qcow2 {

bool reserves_more_than_it_holds(const ReadOnlyFile& file, const Header& header, StoredRefcounts& stored) {
  const std::uint64_t held = file.allocated_size() / header.geometry.cluster_size();
  const std::uint64_t suspicious = std::max(held * 10 / 9, held + 2);
  const std::uint64_t end = header.geometry.host_clusters(file.size());
  const std::uint64_t per_block = stored.clusters_per_block();
  std::uint64_t used = 0;
  for (std::uint64_t index = 0; index * per_block < end && used < suspicious; ++index) {
    const std::optional<HostOffset> block = stored.block(index);
    if (!block || !stored.is_readable(*block)) continue;
    const HostCluster block_end{std::min((index + 1) * per_block, end)};
    for (HostCluster at = stored.next({index * per_block}, block_end); at < block_end;
         at = stored.next(at + 1, block_end))
      ++used;
  }
  return used >= suspicious;
}

}  // namespace qcow2
