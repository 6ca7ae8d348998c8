#include "qcow2/flow/reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "core/alignment.h"
#include "core/error.h"
#include "qcow2/limits.h"

namespace qcow2 {
namespace {

[[noreturn]] void fail_damaged(HostOffset at) {
  core::fail_errno(EIO, "the compressed cluster at host byte " + std::to_string(at.value) + " is damaged");
}

// The disk below is best asked for much at once.
bool continues(const Reader::Piece& before, const Reader::Piece& piece) {
  return before.at + before.target.size() == piece.at &&
         before.target.data() + before.target.size() == piece.target.data();
}

}  // namespace

struct Reader::Flight {
  core::SharedBytes bytes;
  std::exception_ptr error;
  bool landed = false;
  core::WaitList waiting;
};

Reader::Reader(core::Engine& engine, core::BlockFile& file, CompressedWriteCache& cache, Backing& backing,
               const Codec& codec, const Geometry& geometry, std::uint32_t version, std::uint64_t decoded_bytes_max)
    : engine_(engine),
      file_(file),
      cache_(cache),
      backing_(backing),
      codec_(codec),
      geometry_(geometry),
      version_(version),
      decoded_(decoded_bytes_max) {}

core::Awaitable<void> Reader::read(Piece piece) {
  const std::uint64_t within = geometry_.within_cluster(piece.at);
  const core::MutableBytes target = piece.target;
  const Placement placement = decode_l2_entry(piece.entry, geometry_, version_);
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    const core::SharedBytes cluster = co_await decoded(compressed->extent, Keep::yes);
    std::memcpy(target.data(), cluster.bytes.data() + within, target.size());
  } else if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    co_await cache_.read(standard->at + within, target);  // clusters smaller than a block pass through the cache too
  } else if (const auto* mixed = std::get_if<MixedCluster>(&placement)) {
    co_await read_parts(*mixed, piece.at, target);
  } else if (std::holds_alternative<Unallocated>(placement)) {
    co_await backing_.read(piece.at, target);
  } else {
    std::memset(target.data(), 0, target.size());
  }
}

core::Awaitable<void> Reader::read_parts(MixedCluster mixed, GuestOffset at, core::MutableBytes target) {
  while (!target.empty()) {
    const std::uint64_t within = geometry_.within_cluster(at);
    const ClusterPart part = part_at(mixed, within, geometry_);
    const core::MutableBytes shown = target.first(std::min<std::uint64_t>(target.size(), part.end - within));
    if (part.what == Shows::data) {
      co_await cache_.read(mixed.at + within, shown);
    } else if (part.what == Shows::below) {
      co_await backing_.read(at, shown);
    } else {
      std::memset(shown.data(), 0, shown.size());
    }
    at = at + shown.size();
    target = target.subspan(shown.size());
  }
}

bool Reader::shows_backing(const Piece& piece) const {
  return piece.entry == l2_entry_unallocated && backing_.covers(piece.at);
}

// Where it is compressed and all of it is wanted, and nobody has it in memory.
std::optional<HostExtent> Reader::whole_fragment(const Piece& piece) {
  if (piece.target.size() != geometry_.cluster_size()) return std::nullopt;
  const Placement placement = decode_l2_entry(piece.entry, geometry_, version_);
  const auto* compressed = std::get_if<CompressedCluster>(&placement);
  if (compressed == nullptr || decoded_.find(compressed->extent.at).size() != 0) return std::nullopt;
  return compressed->extent;
}

core::Awaitable<void> Reader::read_all(std::vector<Piece> pieces) {
  if (pieces.size() == 1) {
    co_await read(pieces.front());
    co_return;
  }
  std::vector<Wanted> wanted;
  std::vector<Piece> others;
  for (const Piece& piece : pieces) {
    if (shows_backing(piece) && !others.empty() && shows_backing(others.back()) && continues(others.back(), piece)) {
      core::MutableBytes& before = others.back().target;
      before = core::MutableBytes(before.data(), before.size() + piece.target.size());
    } else if (const std::optional<HostExtent> fragment = whole_fragment(piece)) {
      wanted.push_back({*fragment, piece.target});
    } else {
      others.push_back(piece);
    }
  }
  std::sort(wanted.begin(), wanted.end(),
            [](const Wanted& one, const Wanted& other) { return one.fragment.at < other.fragment.at; });
  core::TaskGroup reads(engine_.executor());
  for (const Piece& piece : others) reads.spawn(read(piece));
  for (auto first = wanted.begin(); first != wanted.end();) {
    const HostOffset end_max = first->fragment.at + limits::read_bytes_max;
    HostOffset end = first->fragment.at;
    auto last = first;
    do {
      end = std::max(end, last->fragment.at + last->fragment.length);
      ++last;
    } while (last != wanted.end() && last->fragment.at <= end + limits::read_gap_max &&
             last->fragment.at + last->fragment.length <= end_max);
    reads.spawn(read_run(std::vector<Wanted>(first, last)));
    first = last;
  }
  co_await reads.join();
}

core::Awaitable<void> Reader::read_run(std::vector<Wanted> run) {
  decoded_misses_ += run.size();
  const HostOffset begin{core::align_down(run.front().fragment.at.value, file_.block_size())};
  HostOffset end = begin;
  for (const Wanted& wanted : run) end = std::max(end, wanted.fragment.at + wanted.fragment.length);
  core::Buffer stored(core::align_up(end - begin, file_.block_size()));
  co_await cache_.read(begin, stored.span());

  const std::size_t share = core::divide_up(run.size(), engine_.pool().size());
  const std::size_t part = std::min(share, std::max<std::size_t>(1, limits::lane_bytes >> geometry_.cluster_bits));
  core::TaskGroup decoders(engine_.executor());
  for (std::size_t done = 0; done < run.size(); done += part) {
    const std::span<const Wanted> wanted = std::span(run).subspan(done, std::min(part, run.size() - done));
    decoders.spawn(decode_part(wanted, begin, stored.span()));
  }
  co_await decoders.join();
}

core::Awaitable<void> Reader::decode_part(std::span<const Wanted> part, HostOffset begin, core::Bytes stored) {
  auto job = [&codec = codec_, part, begin, stored] {
    return std::find_if(part.begin(), part.end(), [&](const Wanted& wanted) {
      const core::Bytes fragment = stored.subspan(wanted.fragment.at - begin, wanted.fragment.length);
      return !codec.decompress(fragment, wanted.target);
    });
  };
  const auto damaged = co_await core::run(engine_.pool(), job);
  if (damaged != part.end()) fail_damaged(damaged->fragment.at);
}

core::Awaitable<core::SharedBytes> Reader::whole(GuestCluster guest, L2Entry entry) {
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (const auto* compressed = std::get_if<CompressedCluster>(&placement)) {
    co_return co_await decoded(compressed->extent, Keep::no);
  }
  const auto buffer = std::make_shared<core::Buffer>(geometry_.cluster_size());
  const Piece all{geometry_.start_of(guest), entry, buffer->span()};
  co_await read(all);
  co_return core::SharedBytes(buffer);
}

core::Awaitable<core::SharedBytes> Reader::decoded(HostExtent fragment, Keep keep) {
  core::SharedBytes known = decoded_.find(fragment.at);
  if (known.size() != 0) {
    ++decoded_hits_;
    co_return known;
  }

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
  ++decoded_misses_;
  core::Buffer stored(fragment.length);
  co_await cache_.read(fragment.at, stored.span());
  const auto plain = std::make_shared<core::Buffer>(geometry_.cluster_size());
  auto job = [&codec = codec_, &stored, &plain] { return codec.decompress(stored.span(), plain->span()); };
  const bool whole = co_await core::run(engine_.pool(), job);
  if (!whole) fail_damaged(fragment.at);
  co_return core::SharedBytes(plain);
}

}  // namespace qcow2
