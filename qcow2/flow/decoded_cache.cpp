#include "qcow2/flow/decoded_cache.h"

#include <algorithm>

namespace qcow2 {
namespace {

constexpr unsigned uses_max = 3;
constexpr std::uint64_t small_divisor = 10;  // of all bytes, what the small queue may hold when room is wanted

}  // namespace

core::SharedBytes DecodedCache::find(HostOffset at) {
  const auto found = index_.find(at);
  if (found == index_.end()) return {};
  found->second.uses = std::min(found->second.uses + 1, uses_max);
  return found->second.bytes;
}

void DecodedCache::insert(HostOffset at, core::SharedBytes bytes) {
  if (index_.contains(at)) return;
  const bool in_main = take_ghost(at);
  bytes_ += bytes.size();
  if (!in_main) small_bytes_ += bytes.size();
  Queue& queue = in_main ? main_ : small_;
  queue.push_back(at);
  index_[at] = {std::move(bytes), 0, in_main, std::prev(queue.end())};
  trim();
}

void DecodedCache::limit(std::uint64_t bytes_max) {
  bytes_max_ = bytes_max;
  trim();
}

void DecodedCache::trim() {
  while (bytes_ > bytes_max_ && index_.size() > 1) {
    if (main_.empty() || small_bytes_ > bytes_max_ / small_divisor) {
      leave_small();
    } else {
      leave_main();
    }
  }
}

void DecodedCache::leave_small() {
  const auto oldest = index_.find(small_.front());
  Entry& entry = oldest->second;
  if (entry.uses == 0) {
    remember_ghost(oldest->first);
    erase(oldest);
    return;
  }
  main_.splice(main_.end(), small_, entry.place);
  small_bytes_ -= entry.bytes.size();
  entry.in_main = true;
  entry.uses = 0;
}

void DecodedCache::leave_main() {
  const auto oldest = index_.find(main_.front());
  Entry& entry = oldest->second;
  if (entry.uses == 0) {
    erase(oldest);
    return;
  }
  --entry.uses;
  main_.splice(main_.end(), main_, entry.place);
}

void DecodedCache::forget(HostExtent range) {
  auto at = index_.lower_bound(range.at);
  while (at != index_.end() && at->first < range.at + range.length) at = erase(at);
  auto ghost = ghost_index_.lower_bound(range.at);
  while (ghost != ghost_index_.end() && ghost->first < range.at + range.length) {
    ghosts_.erase(ghost->second);
    ghost = ghost_index_.erase(ghost);
  }
}

DecodedCache::Index::iterator DecodedCache::erase(Index::iterator entry) {
  const std::uint64_t size = entry->second.bytes.size();
  bytes_ -= size;
  if (!entry->second.in_main) small_bytes_ -= size;
  (entry->second.in_main ? main_ : small_).erase(entry->second.place);
  return index_.erase(entry);
}

void DecodedCache::remember_ghost(HostOffset at) {
  ghosts_.push_back(at);
  ghost_index_[at] = std::prev(ghosts_.end());
  while (ghosts_.size() > index_.size()) {
    ghost_index_.erase(ghosts_.front());
    ghosts_.pop_front();
  }
}

bool DecodedCache::take_ghost(HostOffset at) {
  const auto ghost = ghost_index_.find(at);
  if (ghost == ghost_index_.end()) return false;
  ghosts_.erase(ghost->second);
  ghost_index_.erase(ghost);
  return true;
}

}  // namespace qcow2
