#include "qcow2/flow/placer.h"

namespace qcow2 {

Placer::Placer(core::BlockFile& file, ClusterAllocator& clusters, FragmentAllocator& fragments,
               CompressedWriteCache& cache, const Geometry& geometry, std::uint64_t fresh_block)
    : file_(file),
      clusters_(clusters),
      fragments_(fragments),
      cache_(cache),
      geometry_(geometry),
      fresh_block_(fresh_block) {}

core::Awaitable<HostOffset> Placer::pack(core::SharedBytes bytes, std::uint64_t alignment) {
  const core::AsyncMutex::Guard alone = co_await packing_.lock();
  const HostOffset at = co_await fragments_.allocate(bytes.size(), alignment);
  co_await cache_.write(at, bytes);
  co_return at;
}

core::Awaitable<L2Entry> Placer::place_compressed(core::SharedBytes fragment) {
  stored_bytes_ += fragment.size();
  const HostOffset at = co_await pack(fragment, 1);
  const HostExtent extent{at, fragment.size()};
  co_return encode_compressed_entry(extent, geometry_);
}

core::Awaitable<L2Entry> Placer::place_standard(core::SharedBytes cluster) {
  stored_bytes_ += cluster.size();
  HostOffset at;
  if (geometry_.cluster_size() < fresh_block_) {
    // Smaller than a block: packed like a fragment, or every write of one would be a read-modify-write of its block.
    at = co_await pack(cluster, geometry_.cluster_size());
  } else {
    at = co_await clusters_.allocate(1);
    co_await file_.write_at(at, cluster.bytes);
  }
  co_return encode_standard_entry(at, geometry_);
}

core::Awaitable<void> Placer::overwrite_standard(HostOffset at, core::SharedBytes cluster) {
  co_await file_.write_at(at, cluster.bytes);
  overwritten_ = true;
}

core::Awaitable<void> Placer::blank_data(HostOffset at) {
  const bool blank = co_await file_.punch(at, geometry_.cluster_size());
  if (!blank) {
    const core::Buffer zeros = core::Buffer::zeroed(geometry_.cluster_size());
    co_await file_.write_at(at, zeros.span());
  }
  overwritten_ = true;
}

core::Awaitable<void> Placer::seal() {
  const core::AsyncMutex::Guard alone = co_await packing_.lock();
  fragments_.seal();
}

core::Awaitable<void> Placer::start_at(HostCluster cluster) {
  const core::AsyncMutex::Guard alone = co_await packing_.lock();
  co_await fragments_.open_at(cluster);
}

core::Awaitable<void> Placer::start_lowest() {
  const core::AsyncMutex::Guard alone = co_await packing_.lock();
  co_await fragments_.close_if_not_lowest();
}

core::Awaitable<core::AsyncMutex::Guard> Placer::pause() {
  core::AsyncMutex::Guard alone = co_await packing_.lock();
  fragments_.close();
  co_return alone;
}

}  // namespace qcow2
