// Metadata in memory, slice by slice: parts of refcount blocks and of L2 tables.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Units      A slice is `slice_size` bytes at a multiple of it in the file.
/// Ownership  Slices stay valid until the next suspension of anyone, or while pinned.
/// Errors     load() throws the device's error.
/// Threads    The engine's strand.
class SliceCache {
 public:
  struct Slice {
    HostOffset at;
    core::Buffer bytes;
    bool dirty = false;  ///< differs from the file: never evicted
    unsigned pins = 0;   ///< in use by someone who suspends: never evicted
  };

  SliceCache(core::BlockFile& file, std::uint64_t slice_size, std::uint64_t bytes_max)
      : file_(file), slice_size_(slice_size), bytes_max_(bytes_max) {}

  std::uint64_t slice_size() const { return slice_size_; }
  HostOffset slice_of(HostOffset at) const;

  /// The resident slice that starts at `at`, or null.
  Slice* find(HostOffset at);
  /// Reads it from the file unless it is resident. Look it up again afterwards: others run in between.
  core::Awaitable<void> load(HostOffset at);
  /// Makes `content` the slice's bytes without reading the file.
  void insert(HostOffset at, core::Bytes content);
  /// Forgets what was cached of [at, at + length): its space is about to mean something else.
  void forget(HostOffset at, std::uint64_t length);

  /// The resident slice at `from` is from now on the one at `to`, where the file has a copy of it or will get one.
  void rename(HostOffset from, HostOffset to);

  void mark_dirty(Slice& slice);
  std::uint64_t dirty_slices() const { return dirty_; }
  /// Copies of all dirty slices, for the caller to write. They are clean now, but stay in memory until landed(): what
  /// the file holds is old until then.
  std::vector<std::pair<HostOffset, core::Buffer>> take_dirty();
  /// The slices that start at these are in the file, or never will be.
  void landed(const std::vector<HostOffset>& slices);

 private:
  using List = std::list<Slice>;  // most recently used first
  List::iterator insert_front(HostOffset at, core::Buffer bytes);
  void evict();

  core::BlockFile& file_;
  std::uint64_t slice_size_;
  std::uint64_t bytes_max_;
  std::uint64_t dirty_ = 0;
  List slices_;
  std::unordered_map<HostOffset, List::iterator> index_;
  std::unordered_map<HostOffset, std::shared_ptr<core::WaitList>> loading_;
};

}  // namespace qcow2
