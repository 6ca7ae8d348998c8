// Who may still be looking at host space that the map no longer names.
#pragma once

#include <cstdint>
#include <deque>
#include <set>

#include "core/async.h"
#include "core/block_file.h"
#include "qcow2/format/addresses.h"

namespace qcow2 {

/// A reader takes a ticket before it looks at the map and keeps it until it has the bytes. Space that was unlinked is
/// reused only after drain(): a reader that saw the old name has then left, a later one cannot have seen it.
/// Threads    The engine's strand.
class Readers {
 public:
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : readers_(std::exchange(other.readers_, nullptr)), generation_(other.generation_) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (readers_ != nullptr) readers_->leave(generation_);
    }

   private:
    friend class Readers;
    Ticket(Readers& readers, std::uint64_t generation) : readers_(&readers), generation_(generation) {}
    Readers* readers_;
    std::uint64_t generation_;
  };

  /// While one exists for a standard cluster, nobody writes over it in place: a reader puts its bytes together with
  /// newer ones from memory, and within a sector they must not become newer still.
  class Hold {
   public:
    Hold(Readers& readers, HostOffset cluster) : readers_(&readers), place_(readers.held_.insert(cluster)) {}
    Hold(Hold&& other) noexcept : readers_(std::exchange(other.readers_, nullptr)), place_(other.place_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (readers_ == nullptr) return;
      readers_->held_.erase(place_);
      readers_->someone_left_.wake_all();
    }

   private:
    Readers* readers_;
    std::multiset<HostOffset>::iterator place_;
  };
  bool held(HostOffset cluster) const { return held_.contains(cluster); }

  /// While one exists, somebody writes over the standard cluster in place: nobody should copy it.
  class Overwriting {
   public:
    Overwriting(Readers& readers, HostOffset cluster)
        : readers_(readers), place_(readers.overwritten_.insert(cluster)) {}
    Overwriting(const Overwriting&) = delete;
    Overwriting& operator=(const Overwriting&) = delete;
    ~Overwriting() { readers_.overwritten_.erase(place_); }

   private:
    Readers& readers_;
    std::multiset<HostOffset>::iterator place_;
  };
  bool overwritten(HostOffset cluster) const { return overwritten_.contains(cluster); }
  core::Awaitable<void> until_free(HostOffset cluster) {
    while (held(cluster)) co_await someone_left_.wait();
  }

  Ticket enter() {
    if (present_.empty()) present_.push_back(0);
    ++present_.back();
    return {*this, first_ + present_.size() - 1};
  }

  /// Suspends until everyone who entered before the call has left.
  core::Awaitable<void> drain() {
    const std::uint64_t until = first_ + present_.size();
    present_.push_back(0);
    retire_empty();
    while (first_ < until) co_await someone_left_.wait();
  }

 private:
  void leave(std::uint64_t generation) {
    --present_[generation - first_];
    retire_empty();
    someone_left_.wake_all();
  }
  void retire_empty() {
    while (present_.size() > 1 && present_.front() == 0) {
      present_.pop_front();
      ++first_;
    }
  }

  std::uint64_t first_ = 0;            // generation of present_.front()
  std::deque<std::uint64_t> present_;  // how many readers of each generation are still there
  core::WaitList someone_left_;
  std::multiset<HostOffset> held_;
  std::multiset<HostOffset> overwritten_;
};

}  // namespace qcow2
