// Decompressed clusters, least recently used out first.
#pragma once

#include <cstdint>
#include <list>
#include <map>

#include "core/bytes.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Keyed by where the fragment lies: its bytes never change while anyone refers to it. forget() must be called before
/// the space is reused.     Threads    The engine's strand.
class DecodedCache {
 public:
  explicit DecodedCache(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Empty bytes where the fragment at `at` is not cached.
  core::SharedBytes find(HostOffset at) {
    const auto found = index_.find(at);
    if (found == index_.end()) return {};
    recent_.splice(recent_.begin(), recent_, found->second);
    return found->second->bytes;
  }

  void insert(HostOffset at, core::SharedBytes bytes) {
    if (index_.contains(at)) return;
    bytes_ += bytes.size();
    recent_.push_front({at, std::move(bytes)});
    index_[at] = recent_.begin();
    while (bytes_ > bytes_max_ && recent_.size() > 1) erase(index_.find(recent_.back().at));
  }

  /// Forgets every fragment that starts in `range`.
  void forget(HostExtent range) {
    auto at = index_.lower_bound(range.at);
    while (at != index_.end() && at->first < range.at + range.length) at = erase(at);
  }

 private:
  struct Entry {
    HostOffset at;
    core::SharedBytes bytes;
  };
  using Index = std::map<HostOffset, std::list<Entry>::iterator>;

  Index::iterator erase(Index::iterator entry) {
    bytes_ -= entry->second->bytes.size();
    recent_.erase(entry->second);
    return index_.erase(entry);
  }

  std::uint64_t bytes_max_;
  std::uint64_t bytes_ = 0;
  std::list<Entry> recent_;
  Index index_;
};

}  // namespace qcow2
