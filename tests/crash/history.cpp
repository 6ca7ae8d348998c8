#include "tests/crash/history.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "core/alignment.h"

namespace crash {
namespace {

constexpr std::uint64_t founding = 0;  // the operation that everything starts with

template <class Values>
std::string list(const Values& values) {
  std::string text;
  for (const std::uint64_t value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
  return text;
}

}  // namespace

History::History(std::uint64_t disk_size) : completed_{0}, first_sizes_{core::align_up(disk_size, guest_sector)} {}

History History::of(const Walk& walk) {
  History history(walk.disk_size);
  history.knows_beyond_ = false;
  const std::uint64_t zeroing = history.begin();  // of the tail; never completes
  const std::uint64_t per_cluster = walk.cluster_size / guest_sector;
  for (const GuestClusterContent& cluster : walk.content) {
    if (cluster.hashes == nullptr) continue;
    for (std::uint64_t i = 0; i < per_cluster; ++i) {
      const std::uint64_t hash = (*cluster.hashes)[i];
      const std::uint64_t sector = cluster.index * per_cluster + i;
      const bool beyond = sector * guest_sector >= walk.disk_size;
      if (hash == zero_hash || beyond) continue;  // what lies behind the disk's end must never show
      Values& values = history.tracks_[sector].values;
      values.push_back({hash, founding});
      if (beyond) values.push_back({zero_hash, zeroing});
    }
  }
  return history;
}

std::uint64_t History::begin() {
  completed_.push_back(pending);
  ++clock_;
  return completed_.size() - 1;
}

void History::complete(std::uint64_t operation) { completed_[operation] = ++clock_; }

History::Sector& History::Track::bytes() {
  if (!newest) newest = std::make_unique<Sector>();
  return *newest;
}

History::Track& History::track(std::uint64_t sector) {
  Track& track = tracks_[sector];
  if (track.values.empty()) track.values.push_back({zero_hash, founding});
  return track;
}

void History::overwrite(std::uint64_t at, core::Bytes bytes, std::uint64_t operation) {
  for (std::uint64_t done = 0; done < bytes.size();) {
    const std::uint64_t within = (at + done) % guest_sector;
    const std::uint64_t length = std::min<std::uint64_t>(guest_sector - within, bytes.size() - done);
    Track& entry = track((at + done) / guest_sector);
    std::memcpy(entry.bytes().data() + within, bytes.data() + done, length);
    entry.values.push_back({hash_sector(entry.bytes()), operation});
    done += length;
  }
}

void History::change_size(SizeChange::Kind kind, std::uint64_t size, std::uint64_t operation) {
  size_changes_.push_back({kind, core::align_up(size, guest_sector), operation});
}

std::uint64_t History::size() const {
  std::uint64_t size = *first_sizes_.rbegin();
  for (const SizeChange& change : size_changes_) size = change.after(size);
  return size;
}

// Folds in the changes that are there for sure and wait for no uncertain one.
void History::prune_sizes() {
  const auto is_sure = [this](const SizeChange& change) { return completed_[change.operation] < acknowledged_; };
  std::size_t end = 0;  // of what is folded in
  for (std::size_t i = 0; i < size_changes_.size(); ++i) {
    if (!is_sure(size_changes_[i])) continue;
    if (size_changes_[i].kind == SizeChange::Kind::set) {
      first_sizes_ = {size_changes_[i].size};
    } else if (i == end) {
      std::set<std::uint64_t> sizes;
      for (const std::uint64_t before : first_sizes_) sizes.insert(size_changes_[i].after(before));
      first_sizes_ = std::move(sizes);
    } else {
      continue;
    }
    end = i + 1;
  }
  size_changes_.erase(size_changes_.begin(), size_changes_.begin() + static_cast<std::ptrdiff_t>(end));
}

std::set<std::uint64_t> History::possible_sizes() const {
  std::set<std::uint64_t> sizes = first_sizes_;
  for (const SizeChange& change : size_changes_) {
    const bool sure = completed_[change.operation] < acknowledged_;
    std::set<std::uint64_t> next;
    if (!sure) next = sizes;
    for (const std::uint64_t before : sizes) next.insert(change.after(before));
    sizes = std::move(next);
  }
  return sizes;
}

std::uint64_t History::begin_write(std::uint64_t at, core::Bytes bytes) {
  const std::uint64_t operation = begin();
  change_size(SizeChange::Kind::at_least, at + bytes.size(), operation);
  overwrite(at, bytes, operation);
  return operation;
}

std::uint64_t History::begin_zero(std::uint64_t at, std::uint64_t length) {
  const std::uint64_t operation = begin();
  const std::uint64_t end = at + length;
  for (auto entry = tracks_.lower_bound(at / guest_sector); entry != tracks_.end(); ++entry) {
    const std::uint64_t start = entry->first * guest_sector;
    if (start >= end) break;
    const std::uint64_t from = std::max(at, start);
    const std::uint64_t to = std::min(end, start + guest_sector);
    if (from >= to) continue;
    std::memset(entry->second.bytes().data() + (from - start), 0, to - from);
    entry->second.values.push_back({hash_sector(entry->second.bytes()), operation});
  }
  return operation;
}

std::uint64_t History::begin_resize(std::uint64_t new_size) {
  if (new_size < size()) {
    const std::uint64_t operation = begin_zero(new_size, size() - new_size);
    change_size(SizeChange::Kind::set, new_size, operation);
    return operation;
  }
  const std::uint64_t operation = begin();
  change_size(SizeChange::Kind::set, new_size, operation);
  return operation;
}

// The last value that was there for sure at that moment.
std::size_t History::newest_at(const Values& values, std::uint64_t moment) const {
  std::size_t index = values.size() - 1;
  while (index > 0 && completed_[values[index].operation] >= moment) --index;
  return index;
}

std::uint64_t History::begin_read() {
  reads_.insert(++clock_);
  return clock_;
}

bool History::had(std::uint64_t token, std::uint64_t sector, core::Bytes bytes) const {
  const auto found = tracks_.find(sector);
  if (found == tracks_.end()) return all_zero(bytes);
  const Values& values = found->second.values;
  const std::uint64_t hash = hash_sector(bytes);
  return std::any_of(values.begin() + static_cast<std::ptrdiff_t>(newest_at(values, token)), values.end(),
                     [hash](const Value& value) { return value.value == hash; });
}

// Values that nobody may see any more go.
void History::prune(Values& values) const {
  const std::uint64_t moment = reads_.empty() ? acknowledged_ : std::min(acknowledged_, *reads_.begin());
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(newest_at(values, moment)));
}

History::Allowed History::allowed() {
  Allowed allowed;
  allowed.knows_beyond = knows_beyond_;
  allowed.entries.reserve(tracks_.size());
  for (auto& [sector, track] : tracks_) {
    prune(track.values);
    const std::size_t first = newest_at(track.values, acknowledged_);
    allowed.entries.push_back({sector, allowed.values.size(), track.values.size() - first});
    for (std::size_t i = first; i < track.values.size(); ++i) allowed.values.push_back(track.values[i].value);
  }
  prune_sizes();
  allowed.sizes = possible_sizes();
  return allowed;
}

// The end of the disk moves down only after what lies behind it is gone, and up together with what is written there: so
// what shows behind it was never acknowledged.
std::string History::Allowed::judge_beyond(const Walk& walk, std::uint64_t end) const {
  const std::uint64_t per_cluster = walk.cluster_size / guest_sector;
  for (const GuestClusterContent& cluster : walk.content) {
    if (cluster.hashes == nullptr) continue;
    for (std::uint64_t i = 0; i < per_cluster; ++i) {
      const std::uint64_t sector = cluster.index * per_cluster + i;
      const std::uint64_t value = (*cluster.hashes)[i];
      if (sector < end || value == zero_hash) continue;
      const auto known =
          std::lower_bound(entries.begin(), entries.end(), sector,
                           [](const Entry& entry, std::uint64_t wanted) { return entry.sector < wanted; });
      const bool is_known = known != entries.end() && known->sector == sector;
      const std::uint64_t* first = values.data() + (is_known ? known->first : 0);
      const std::uint64_t* last = first + (is_known ? known->count : 0);
      if (is_known && std::find(first + 1, last, value) != last) continue;
      return "behind the disk's end, guest sector " + std::to_string(sector) + " holds what was acknowledged";
    }
  }
  return {};
}

std::string History::Allowed::judge(const Walk& walk) const {
  if (!sizes.contains(walk.disk_size)) {
    return "the disk's size is " + std::to_string(walk.disk_size) + ", may be " + list(sizes);
  }
  const std::uint64_t per_cluster = walk.cluster_size / guest_sector;
  const std::uint64_t end = walk.disk_size / guest_sector;
  const auto wrong = [](std::uint64_t sector, std::uint64_t value, const std::uint64_t* may_be, std::size_t count) {
    return "guest sector " + std::to_string(sector) + " shows " + std::to_string(value) + ", may show " +
           list(std::span(may_be, count));
  };
  std::size_t next = 0;                                  // of the entries
  const auto absent_until = [&](std::uint64_t sector) {  // everything before `sector` reads as zeros
    for (; next < entries.size() && entries[next].sector < sector; ++next) {
      const std::uint64_t* may_be = values.data() + entries[next].first;
      if (std::find(may_be, may_be + entries[next].count, zero_hash) == may_be + entries[next].count) {
        return wrong(entries[next].sector, zero_hash, may_be, entries[next].count);
      }
    }
    return std::string();
  };
  for (const GuestClusterContent& cluster : walk.content) {
    const std::uint64_t first = cluster.index * per_cluster;
    if (first >= end) break;
    if (cluster.hashes == nullptr) continue;
    if (std::string text = absent_until(first); !text.empty()) return text;
    for (std::uint64_t i = 0; i < per_cluster && first + i < end; ++i) {
      const std::uint64_t value = (*cluster.hashes)[i];
      if (next < entries.size() && entries[next].sector == first + i) {
        const std::uint64_t* may_be = values.data() + entries[next].first;
        if (std::find(may_be, may_be + entries[next].count, value) == may_be + entries[next].count) {
          return wrong(first + i, value, may_be, entries[next].count);
        }
        ++next;
      } else if (value != zero_hash) {
        return wrong(first + i, value, &zero_hash, 1);
      }
    }
  }
  std::string text = absent_until(end);
  if (text.empty() && knows_beyond) text = judge_beyond(walk, end);
  return text;
}

}  // namespace crash
