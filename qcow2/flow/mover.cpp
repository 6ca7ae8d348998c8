#include "qcow2/flow/mover.h"

#include <optional>

namespace qcow2 {

struct Mover::Work {
  Resident resident;
  std::optional<Readers::Hold> hold;  ///< nobody writes over a standard cluster while it is copied
  std::shared_ptr<core::Buffer> bytes;
  std::size_t length = 0;  ///< of them, what is stored again; 0 for what cannot be moved
};

core::Awaitable<void> Mover::move(std::vector<Resident> residents, std::uint64_t disk_size, const Codec* recompressor) {
  const ChangeGate::Pass changing = co_await rooms_.gate.enter();
  co_await rooms_.commit.wait_for_room();
  const Admission::Claim claim(rooms_.admission, residents.size());
  co_await rooms_.admission.ensure_space(disk_size);
  const Readers::Ticket ticket = rooms_.readers.enter();  // what is read stays what it is, and its place nobody else's
  std::vector<Work> works(residents.size());
  for (std::size_t i = 0; i < works.size(); ++i) {
    works[i].resident = residents[i];
    co_await pick(works[i]);
  }
  core::TaskGroup reads(engine_.executor());
  for (const Work& work : works) {
    if (work.bytes) reads.spawn(rooms_.cache.read(work.resident.extent.at, work.bytes->span()));
  }
  co_await reads.join();
  co_await measure(works, recompressor);
  for (Work& work : works) {
    if (work.length != 0) co_await place(work);
  }
}

// Unless the guest has written to it meanwhile, or is doing so in place.
core::Awaitable<void> Mover::pick(Work& work) {
  const Resident& resident = work.resident;
  const L2Entry entry = co_await rooms_.map.entry_of(resident.guest);
  if (entry != resident.entry) co_return;
  if (!resident.compressed) {
    if (rooms_.readers.overwritten(resident.extent.at)) co_return;
    work.hold.emplace(rooms_.readers, resident.extent.at);
  }
  work.bytes = std::make_shared<core::Buffer>(resident.extent.length);
}

core::Awaitable<void> Mover::measure(std::vector<Work>& works, const Codec* recompressor) {
  auto job = [this, &works, recompressor] {
    core::Buffer plain(geometry_.cluster_size());
    core::Buffer shorter(geometry_.cluster_size());
    for (Work& work : works) {
      if (!work.bytes) continue;
      work.length = work.bytes->size();
      if (!work.resident.compressed) continue;
      const auto taken = rooms_.codec.measure(work.bytes->span(), plain.span());
      work.length = taken && *taken <= geometry_.cluster_size() ? *taken : 0;  // no writer here stores longer ones
      if (work.length == 0 || recompressor == nullptr) continue;
      const auto length = recompressor->compress(plain.span(), shorter.span().first(work.length));
      if (!length || *length >= work.length) continue;
      std::copy_n(shorter.data(), *length, work.bytes->data());
      work.length = *length;
    }
  };
  co_await core::run(engine_.pool(), job);
}

core::Awaitable<void> Mover::place(Work& work) {
  const Resident& resident = work.resident;
  const core::SharedBytes bytes = core::SharedBytes(work.bytes).slice(0, work.length);
  L2Entry entry;
  if (resident.compressed) {
    entry = co_await rooms_.placer.place_compressed(bytes);
  } else {
    entry = co_await rooms_.placer.place_standard(bytes);
  }
  const L2Entry now = co_await rooms_.map.entry_of(resident.guest);
  // No suspension from here on. What the guest has written or discarded meanwhile is newer.
  if (now == resident.entry) {
    rooms_.map.set(resident.guest, entry);
    moved_bytes_ += work.length;
  } else {
    rooms_.map.lose(decode_l2_entry(entry, geometry_, version_));
  }
}

}  // namespace qcow2
