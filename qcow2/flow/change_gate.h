// Who changes what the disk holds, and who needs it not to change meanwhile: a shrink.
#pragma once

#include <cstdint>
#include <utility>

#include "core/async.h"
#include "core/block_file.h"
#include "core/fail_stop.h"

namespace qcow2 {

/// Any number of changes may be under way at once, or one that has the disk to itself.
/// Errors     close() throws ENOSPC where the changes wait for space on the host, and what has failed as it was.
/// Threads    The engine's strand.
class ChangeGate {
 public:
  /// A change is under way while one exists.
  class Pass {
   public:
    explicit Pass(ChangeGate& gate) : gate_(&gate) { ++gate_->passes_; }
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ == nullptr) return;
      --gate_->passes_;
      gate_->moved_.wake_all();
    }

   private:
    ChangeGate* gate_;
  };

  /// `failure` must outlive this.
  explicit ChangeGate(const core::FailStop& failure) : failure_(failure) {}

  core::Awaitable<Pass> enter() {
    while (closed_) co_await moved_.wait();
    co_return Pass(*this);
  }
  /// Suspends until all changes have ended; none begins until open(). Where it throws, the gate is open.
  core::Awaitable<void> close() {
    closed_ = true;
    while (passes_ != 0) {
      if (failure_.code()) {
        open();
        failure_.check();
      }
      co_await moved_.wait();
    }
  }
  void open() {
    closed_ = false;
    moved_.wake_all();
  }
  bool busy() const { return passes_ != 0; }
  /// What check() of `failure` says has changed.
  void wake_all() { moved_.wake_all(); }

 private:
  const core::FailStop& failure_;
  std::uint64_t passes_ = 0;
  bool closed_ = false;
  core::WaitList moved_;
};

}  // namespace qcow2
