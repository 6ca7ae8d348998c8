#include "qcow2/flow/reader.h"

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace qcow2 {

struct Reader::Flight {
  core::SharedBytes bytes;
  std::exception_ptr error;
  bool landed = false;
  core::WaitList waiting;
};

Reader::Reader(core::Engine& engine, core::BlockFile& file, CompressedWriteCache& cache, const Codec& codec,
               const Geometry& geometry, std::uint32_t version, std::uint64_t decoded_bytes_max)
    : engine_(engine),
      file_(file),
      cache_(cache),
      codec_(codec),
      geometry_(geometry),
      version_(version),
      decoded_(decoded_bytes_max) {}

core::Awaitable<void> Reader::read(std::uint64_t entry, std::uint64_t within, core::MutableBytes target) {
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    const core::SharedBytes cluster = co_await decoded(compressed->extent, Keep::yes);
    std::memcpy(target.data(), cluster.bytes.data() + within, target.size());
  } else if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    co_await cache_.read(standard->at + within, target);  // clusters smaller than a block pass through the cache too
  } else {
    std::memset(target.data(), 0, target.size());
  }
}

core::Awaitable<core::SharedBytes> Reader::whole(std::uint64_t entry) {
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    co_return co_await decoded(compressed->extent, Keep::no);
  }
  const auto buffer = std::make_shared<core::Buffer>(geometry_.cluster_size());
  co_await read(entry, 0, buffer->span());
  co_return core::SharedBytes(buffer);
}

core::Awaitable<core::SharedBytes> Reader::decoded(HostExtent fragment, Keep keep) {
  core::SharedBytes known = decoded_.find(fragment.at);
  if (known.size() != 0) co_return known;

  if (const auto under_way = flights_.find(fragment.at); under_way != flights_.end()) {
    const std::shared_ptr<Flight> flight = under_way->second;
    while (!flight->landed) co_await flight->waiting.wait();
    if (flight->error) std::rethrow_exception(flight->error);
    co_return flight->bytes;
  }

  const auto flight = std::make_shared<Flight>();
  flights_.emplace(fragment.at, flight);
  try {
    flight->bytes = co_await decode(fragment);
  } catch (...) {
    flight->error = std::current_exception();
  }
  flights_.erase(fragment.at);
  flight->landed = true;
  flight->waiting.wake_all();
  if (flight->error) std::rethrow_exception(flight->error);
  if (keep == Keep::yes) decoded_.insert(fragment.at, flight->bytes);
  co_return flight->bytes;
}

core::Awaitable<core::SharedBytes> Reader::decode(HostExtent fragment) {
  core::Buffer stored(fragment.length);
  co_await cache_.read(fragment.at, stored.span());
  const auto plain = std::make_shared<core::Buffer>(geometry_.cluster_size());
  auto job = [&codec = codec_, &stored, &plain] { return codec.decompress(stored.span(), plain->span()); };
  const bool whole = co_await core::run(engine_.pool(), job);
  if (!whole) {
    core::fail_errno(EIO, "the compressed cluster at host byte " + std::to_string(fragment.at.value) + " is damaged");
  }
  co_return core::SharedBytes(plain);
}

}  // namespace qcow2
