// What a disk says of its work, and which of its settings can change while it works.
#include "qcow2/disk.h"

namespace qcow2 {

core::DiskStatus Disk::status() const {
  core::DiskStatus status;
  status.dirty_bytes = assembler_.dirty_bytes();
  status.encoded_bytes = encoder_.clusters_placed() * geometry_.cluster_size();
  status.stored_bytes = placer_.stored_bytes();
  status.commits = commit_.batches_made_durable();
  status.cache_hits = reader_.decoded_hits();
  status.cache_misses = reader_.decoded_misses();
  status.cache_size = options_.cache_size;
  status.commit_interval_ms = options_.commit_interval_ms;
  status.workers = engine_.pool().size();
  status.cleaning = surveyed_ && !options_.read_only ? options_.clean : Cleaning::off;
  status.compacting = compacting_;
  status.moved_bytes = mover_.moved_bytes();
  status.given_back_bytes = file_.punched_bytes();
  return status;
}

void Disk::set_commit_interval(std::chrono::milliseconds interval) {
  options_.commit_interval_ms = static_cast<unsigned>(interval.count());
  engine_.wake_sleepers();  // they count by the old one
}

void Disk::set_workers(std::size_t threads) {
  engine_.pool().resize(threads);
  if (!options_.read_only && !closing_) encoder_.add_lanes();
}

void Disk::set_cleaning(Cleaning cleaning) {
  options_.clean = cleaning;
  cleaning_set_.wake_all();
}

void Disk::set_cache_size(std::uint64_t bytes) {
  options_.cache_size = bytes;
  budget_ = limits::share_out(bytes, geometry_.cluster_size());
  assembler_.set_dirty_bytes_max(budget_.dirty_bytes);
  cache_.set_size(budget_.compressed_bytes);
  admission_.set_budget(budget_);
}

}  // namespace qcow2
