#include "qcow2/flow/admission.h"

#include <algorithm>

#include "core/error.h"

namespace qcow2 {

std::uint64_t Admission::clusters_needed(std::uint64_t disk_size) const {
  // A dirty cluster may have to be stored as it is; one smaller than a block may lose another to alignment.
  const std::uint64_t dirty = rooms_.assembler.dirty_clusters() + 1;
  const std::uint64_t per_dirty = geometry_.external_data ? 0 : rooms_.placer.overwrites() ? 1 : 2;
  const std::uint64_t new_tables = std::min(dirty, rooms_.map.tables_absent(geometry_.l1_entries(disk_size)));
  const std::uint64_t l1_clusters = geometry_.host_clusters(geometry_.l1_entries(disk_size) * 8);
  const std::uint64_t needed = dirty * per_dirty + new_tables + rooms_.map.tables_wanted() + claimed_;
  return needed + needed / geometry_.refcounts_per_block() + rooms_.refcounts.next_growth().count + 2 * l1_clusters +
         8 * chunk_;
}

core::Awaitable<void> Admission::admit(std::uint64_t disk_size) {
  co_await rooms_.commit.wait_for_room();
  co_await rooms_.assembler.wait_for_room();
  co_await ensure_space(disk_size);
  share_memory();
}

void Admission::share_memory() {
  const std::uint64_t left = budget_.decoded_bytes - std::min(budget_.decoded_bytes, rooms_.assembler.dirty_bytes());
  rooms_.reader.limit_decoded(std::max(left, budget_.decoded_bytes_min));
}

core::Awaitable<void> Admission::ensure_space(std::uint64_t disk_size) {
  if (rooms_.space.holds(clusters_needed(disk_size))) co_return;
  try {
    co_await rooms_.space.ensure(clusters_needed(disk_size));
    co_return;
  } catch (const core::Error& error) {
    if (!core::means_no_space(error.code())) throw;
  }
  // Not all that is taken will be needed, and some of it is about to be given back.
  co_await rooms_.commit.flush();
  co_await rooms_.commit.wait_until_idle();
  co_await rooms_.space.recount();
  co_await rooms_.space.ensure(clusters_needed(disk_size));
}

}  // namespace qcow2
