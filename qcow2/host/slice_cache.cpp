#include "qcow2/host/slice_cache.h"

#include <algorithm>

#include "core/alignment.h"
#include "core/check.h"

namespace qcow2 {

HostOffset SliceCache::slice_of(HostOffset at) const { return {core::align_down(at.value, slice_size_)}; }

SliceCache::Slice* SliceCache::find(HostOffset at) {
  const auto found = index_.find(at);
  if (found == index_.end()) return nullptr;
  slices_.splice(slices_.begin(), slices_, found->second);
  return &*found->second;
}

core::Awaitable<void> SliceCache::load(HostOffset at) {
  if (index_.contains(at)) co_return;
  if (const auto loading = loading_.find(at); loading != loading_.end()) {
    const std::shared_ptr<core::WaitList> arrival = loading->second;
    co_await arrival->wait();
    co_return;
  }
  const auto arrival = std::make_shared<core::WaitList>();
  loading_.emplace(at, arrival);
  core::Buffer bytes(slice_size_);
  std::exception_ptr error;
  try {
    co_await file_.read_at(at, bytes.span());
  } catch (...) {
    error = std::current_exception();
  }
  loading_.erase(at);
  if (!error && !index_.contains(at)) insert_front(at, std::move(bytes));
  arrival->wake_all();
  if (error) std::rethrow_exception(error);
}

void SliceCache::insert(HostOffset at, core::Bytes content) {
  CHECK(content.size() == slice_size_);
  core::Buffer bytes(slice_size_);
  std::copy(content.begin(), content.end(), bytes.data());
  forget(at, slice_size_);
  insert_front(at, std::move(bytes));
}

void SliceCache::forget(HostOffset at, std::uint64_t length) {
  for (std::uint64_t done = 0; done < length; done += slice_size_) {
    const auto found = index_.find(at + done);
    if (found == index_.end()) continue;
    CHECK(found->second->pins == 0);
    if (found->second->dirty) --dirty_;
    slices_.erase(found->second);
    index_.erase(found);
  }
}

void SliceCache::rename(HostOffset from, HostOffset to) {
  forget(to, slice_size_);
  const auto found = index_.find(from);
  const List::iterator slice = found->second;
  index_.erase(found);
  slice->at = to;
  index_[to] = slice;
}

void SliceCache::mark_dirty(Slice& slice) {
  if (slice.dirty) return;
  slice.dirty = true;
  ++dirty_;
}

std::vector<std::pair<HostOffset, core::Buffer>> SliceCache::take_dirty() {
  std::vector<std::pair<HostOffset, core::Buffer>> taken;
  for (Slice& slice : slices_) {
    if (!slice.dirty) continue;
    core::Buffer copy(slice_size_);
    std::copy_n(slice.bytes.data(), slice_size_, copy.data());
    taken.emplace_back(slice.at, std::move(copy));
    slice.dirty = false;
    ++slice.pins;
  }
  dirty_ = 0;
  return taken;
}

void SliceCache::landed(const std::vector<HostOffset>& slices) {
  for (const HostOffset at : slices) --index_.at(at)->pins;
}

SliceCache::List::iterator SliceCache::insert_front(HostOffset at, core::Buffer bytes) {
  slices_.push_front(Slice{at, std::move(bytes)});
  index_[at] = slices_.begin();
  evict();
  return slices_.begin();
}

void SliceCache::evict() {
  std::uint64_t excess = slices_.size() * slice_size_;
  auto candidate = slices_.end();
  while (excess > bytes_max_ && candidate != slices_.begin()) {
    --candidate;
    if (candidate == slices_.begin()) break;  // the newest one is wanted by whoever brought it
    if (candidate->dirty || candidate->pins != 0) continue;
    index_.erase(candidate->at);
    candidate = slices_.erase(candidate);
    excess -= slice_size_;
  }
}

}  // namespace qcow2
