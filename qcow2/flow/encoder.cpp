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
  core::SharedBytes cluster;              ///< what the guest wrote over it
  core::Bytes fragment;                   ///< in the lane's scratch memory
  Form form = Form::zero;
  bool put_back = false;
};

Encoder::Encoder(core::Engine& engine, Rooms rooms, const Geometry& geometry, std::uint32_t version)
    : engine_(engine), rooms_(rooms), geometry_(geometry), version_(version) {}

void Encoder::add_lanes() {
  // Twice the processors, and some more that wait for the disk.
  const std::size_t wanted = 2 * engine_.pool().size() + rooms_.placer.depth() / 2;
  while (lanes_ < wanted) {
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
      const auto sealed = co_await rooms_.assembler.take(limits::lane_bytes, engine_.pool().size());
      if (sealed.empty() || rooms_.failure.failed()) break;
      co_await encode(sealed, *scratch);
    }
  } catch (const std::exception& error) {
    rooms_.failure.record(error);
  }
  --lanes_;
  lane_ended_.wake_all();
}

core::Awaitable<void> Encoder::encode(std::vector<std::shared_ptr<SealedCluster>> sealed, core::Buffer& scratch) {
  std::vector<Work> works(sealed.size());
  for (std::size_t i = 0; i < works.size(); ++i) works[i].sealed = std::move(sealed[i]);
  co_await complete(works);
  if (works.empty()) co_return;
  auto job = [&works, &scratch, this] {
    std::size_t used = 0;
    for (Work& work : works) {
      work.cluster = work.sealed->bytes.over(std::exchange(work.base, std::nullopt));
      const core::Bytes bytes = work.cluster.bytes;
      const bool zero_needs_bytes = version_ < 3 && must_say_zero(work.sealed->guest);
      if (!zero_needs_bytes && is_all_zero(bytes)) continue;
      if (geometry_.external_data) {
        work.form = Form::standard;
        continue;
      }
      const core::MutableBytes room = scratch.span().subspan(used, geometry_.compressed_bytes_max());
      const std::optional<std::size_t> length = rooms_.codec.compress(bytes, room);
      work.form = length ? Form::compressed : Form::standard;
      if (length) work.fragment = room.first(*length);
      used += length.value_or(0);
    }
  };
  co_await core::run(engine_.pool(), job);
  core::TaskGroup waiting(engine_.executor());  // for the disk; what is packed only waits for the one before
  std::exception_ptr failure;
  try {
    for (Work& work : works) {
      if (work.form == Form::standard) {
        waiting.spawn(place_and_tell(work));
      } else {
        co_await place_and_tell(work);
      }
    }
  } catch (...) {
    failure = std::current_exception();
  }
  co_await waiting.join();
  if (failure) std::rethrow_exception(failure);
}

core::Awaitable<void> Encoder::place_and_tell(Work& work) {
  // The cache and the file have taken the bytes when place() completes, so the scratch memory needs no owner.
  const core::SharedBytes fragment(nullptr, work.fragment);
  const bool placed = co_await place(work, fragment);
  if (placed) rooms_.assembler.placed(work.sealed);
}

// Only those are left whose rest can be read: a damaged cluster is its own trouble, not that of the whole disk.
core::Awaitable<void> Encoder::complete(std::vector<Work>& works) {
  core::TaskGroup reads(engine_.executor());
  for (Work& work : works) {
    if (!work.sealed->bytes.complete()) reads.spawn(complete(work));
  }
  co_await reads.join();
  std::erase_if(works, [](const Work& work) { return work.put_back; });
}

core::Awaitable<void> Encoder::complete(Work& work) {
  try {
    co_await find_base(work);
  } catch (const std::exception& error) {
    work.put_back = true;
    put_back(work.sealed, error);
  }
}

core::Awaitable<void> Encoder::find_base(Work& work) {
  const Readers::Ticket ticket = rooms_.readers.enter();
  const L2Entry entry = co_await entry_of(work.sealed->guest);
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (std::holds_alternative<ZeroCluster>(placement)) co_return;
  if (std::holds_alternative<Unallocated>(placement) && !must_say_zero(work.sealed->guest)) co_return;
  work.base = co_await rooms_.reader.whole(work.sealed->guest, entry);
}

core::Awaitable<L2Entry> Encoder::entry_of(GuestCluster cluster) {
  const Readers::Ticket ticket = rooms_.readers.enter();
  co_return co_await rooms_.map.entry_of(cluster);
}

void Encoder::put_back(const std::shared_ptr<SealedCluster>& sealed, const std::exception& error) {
  const std::uint64_t at = geometry_.start_of(sealed->guest).value;
  spdlog::error("the cluster at byte {} of the disk cannot be completed, what was written to it stays in memory: {}",
                at, core::describe(error));
  rooms_.assembler.put_back(sealed, error);
}

core::Awaitable<bool> Encoder::place(Work& work, core::SharedBytes fragment) {
  const SealedCluster& sealed = *work.sealed;
  if (sealed.superseded) co_return true;
  bool nameable = false;
  try {
    co_await entry_of(sealed.guest);  // what will name it can be read: nothing fails for that once space is taken
    nameable = true;
  } catch (const std::exception& error) {
    put_back(work.sealed, error);
  }
  if (!nameable) co_return false;
  if (geometry_.external_data) {
    co_await place_in_data_file(work);
    co_return true;
  }
  L2Entry entry = version_ >= 3 ? encode_zero_entry(geometry_) : l2_entry_unallocated;
  if (work.form == Form::compressed) {
    entry = co_await rooms_.placer.place_compressed(fragment);
  } else if (work.form == Form::standard) {
    const bool overwritten = co_await overwrite(sealed.guest, work.cluster);
    if (overwritten) co_return true;
    entry = co_await rooms_.placer.place_standard(work.cluster);
  }
  if (work.form != Form::zero) ++clusters_placed_;
  co_await name(sealed, entry);
  co_return true;
}

// What the guest overwrites is its own: torn between old and new sectors, as on any disk, until the next fsync. True
// where the cluster has a standard cluster to itself.
core::Awaitable<bool> Encoder::overwrite(GuestCluster guest, core::SharedBytes cluster) {
  if (!rooms_.placer.overwrites()) co_return false;
  const Readers::Ticket ticket = rooms_.readers.enter();  // should it be discarded meanwhile, its space waits for us
  const L2Entry entry = co_await entry_of(guest);
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  const auto* standard = std::get_if<StandardCluster>(&placement);
  if (standard == nullptr || !standard->sole || rooms_.readers.held(standard->at)) co_return false;
  const Readers::Overwriting writing(rooms_.readers, standard->at);
  co_await rooms_.placer.overwrite_standard(standard->at, cluster);
  co_return true;
}

// It has one place there, whatever is there now. A cluster of zeros may stay without one, unless who reads the file by
// itself must find zeros too.
core::Awaitable<void> Encoder::place_in_data_file(Work& work) {
  const GuestCluster guest = work.sealed->guest;
  const HostOffset at = data_file_base + geometry_.start_of(guest).value;
  const L2Entry entry = co_await entry_of(guest);
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (work.form == Form::zero && !geometry_.raw_data && !has_place(placement)) {
    co_await name(*work.sealed, encode_zero_entry(geometry_));
    co_return;
  }
  co_await rooms_.readers.until_free(at);
  if (work.form == Form::zero) {
    co_await rooms_.placer.blank_data(at);
  } else {
    co_await rooms_.placer.overwrite_standard(at, work.cluster);
  }
  co_await name(*work.sealed, encode_standard_entry(at, geometry_));
}

core::Awaitable<void> Encoder::name(const SealedCluster& sealed, L2Entry entry) {
  const L2Entry old_entry = co_await entry_of(sealed.guest);
  // No suspension from here on: nobody can discard the cluster between the question and the naming.
  if (sealed.superseded) {
    rooms_.map.lose(decode_l2_entry(entry, geometry_, version_));
    co_return;
  }
  const bool stays_unallocated =
      old_entry == l2_entry_unallocated && entry == encode_zero_entry(geometry_) && !must_say_zero(sealed.guest);
  if (!stays_unallocated && old_entry != entry) rooms_.map.set(sealed.guest, entry);
}

}  // namespace qcow2
