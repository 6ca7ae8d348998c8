#include "qcow2/flow/encoder.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <cstring>
#include <optional>

#include "qcow2/limits.h"

namespace qcow2 {
namespace {

enum class Form { zero, compressed, standard };

}  // namespace

// One cluster in a lane's hand.
struct Encoder::Work {
  std::shared_ptr<SealedCluster> sealed;
  std::optional<core::SharedBytes> base;  ///< what was there before; nothing where it reads as zeros
  core::Bytes fragment;                   ///< in the lane's scratch memory
  Form form = Form::zero;
};

namespace {

void complete(SealedCluster& sealed, const std::optional<core::SharedBytes>& base, std::uint64_t cluster_size) {
  for (const ByteRange& gap : sealed.known.missing({0, cluster_size})) {
    std::byte* target = sealed.gathered->data() + gap.begin;
    if (base) {
      std::memcpy(target, base->bytes.data() + gap.begin, gap.length());
    } else {
      std::memset(target, 0, gap.length());
    }
  }
}

}  // namespace

Encoder::Encoder(core::Engine& engine, Rooms rooms, const Geometry& geometry, std::uint32_t version)
    : engine_(engine), rooms_(rooms), geometry_(geometry), version_(version) {}

void Encoder::start() {
  // Twice the processors, and some more that wait for the disk.
  const std::size_t count = 2 * engine_.pool().size() + 2;
  for (std::size_t i = 0; i < count; ++i) {
    ++lanes_;
    boost::asio::co_spawn(engine_.executor(), lane(), core::Supervised{"encoder lane"});
  }
}

core::Awaitable<void> Encoder::join() {
  while (lanes_ != 0) co_await lane_ended_.wait();
}

core::Awaitable<void> Encoder::lane() {
  const auto scratch = std::make_shared<core::Buffer>(
      std::max(limits::lane_bytes, geometry_.cluster_size()));  // fragments are shorter than their clusters
  try {
    for (;;) {
      const auto sealed = co_await rooms_.assembler.take(limits::lane_bytes);
      if (sealed.empty() || rooms_.failure.failed()) break;
      co_await encode(sealed, *scratch);
    }
  } catch (const std::exception& error) {
    if (!rooms_.failure.failed()) spdlog::error("writing failed, nothing more is accepted: {}", core::describe(error));
    rooms_.failure.record(error);
    rooms_.assembler.wake_all();
  }
  --lanes_;
  lane_ended_.wake_all();
}

core::Awaitable<void> Encoder::encode(std::vector<std::shared_ptr<SealedCluster>> sealed, core::Buffer& scratch) {
  std::vector<Work> works(sealed.size());
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    works[i].sealed = sealed[i];
    co_await find_base(works[i]);
  }
  auto job = [&works, &scratch, this] {
    std::size_t used = 0;
    for (Work& work : works) {
      SealedCluster& cluster = *work.sealed;
      if (cluster.gathered) complete(cluster, work.base, geometry_.cluster_size());
      if (is_all_zero(cluster.bytes())) continue;
      const core::MutableBytes room = scratch.span().subspan(used, geometry_.compressed_bytes_max());
      const std::optional<std::size_t> length = rooms_.codec.compress(cluster.bytes(), room);
      work.form = length ? Form::compressed : Form::standard;
      if (length) work.fragment = room.first(*length);
      used += length.value_or(0);
    }
  };
  co_await core::run(engine_.pool(), job);
  for (Work& work : works) {
    // The cache and the file have taken the bytes when place() completes, so the scratch memory needs no owner.
    const core::SharedBytes fragment(nullptr, work.fragment);
    co_await place(work, fragment);
    rooms_.assembler.placed(work.sealed);
  }
}

core::Awaitable<void> Encoder::find_base(Work& work) {
  const SealedCluster& sealed = *work.sealed;
  const ByteRange whole{0, geometry_.cluster_size()};
  if (!sealed.gathered || sealed.known.covers(whole)) co_return;
  const Readers::Ticket ticket = rooms_.readers.enter();
  std::optional<std::uint64_t> entry = rooms_.map.find(sealed.guest);
  while (!entry) {
    co_await rooms_.map.load(sealed.guest);
    entry = rooms_.map.find(sealed.guest);
  }
  const Placement placement = decode_l2_entry(*entry, geometry_, version_);
  if (std::holds_alternative<Unallocated>(placement) || std::holds_alternative<ZeroCluster>(placement)) co_return;
  work.base = co_await rooms_.reader.whole(*entry);
}

core::Awaitable<void> Encoder::place(Work& work, core::SharedBytes fragment) {
  const SealedCluster& sealed = *work.sealed;
  if (sealed.superseded) co_return;
  std::uint64_t entry = version_ >= 3 ? l2_entry_zero : l2_entry_unallocated;
  if (work.form == Form::compressed) {
    entry = co_await rooms_.placer.place_compressed(fragment);
  } else if (work.form == Form::standard) {
    const auto& gathered = sealed.gathered;
    const core::SharedBytes cluster(sealed.payload.owner, gathered ? core::Bytes(gathered->span()) : sealed.bytes());
    entry = co_await rooms_.placer.place_standard(cluster);
  }
  co_await name(sealed, entry);
}

core::Awaitable<void> Encoder::name(const SealedCluster& sealed, std::uint64_t entry) {
  const Readers::Ticket ticket = rooms_.readers.enter();
  std::optional<std::uint64_t> old_entry = rooms_.map.find(sealed.guest);
  while (!old_entry) {
    co_await rooms_.map.load(sealed.guest);
    old_entry = rooms_.map.find(sealed.guest);
  }
  // No suspension from here on: nobody can discard the cluster between the question and the naming.
  if (sealed.superseded) {
    rooms_.map.lose(clusters_referenced(decode_l2_entry(entry, geometry_, version_), geometry_));
    co_return;
  }
  const bool stays_unallocated = *old_entry == l2_entry_unallocated && entry == l2_entry_zero;
  if (!stays_unallocated && *old_entry != entry) rooms_.map.set(sealed.guest, entry);
}

}  // namespace qcow2
