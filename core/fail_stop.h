// What keeps a disk from making things durable: for good, or until there is space again.
#pragma once

#include <exception>
#include <functional>
#include <string>

#include "core/error.h"

namespace core {

/// After one failed write or barrier nobody knows what the device holds: retrying would lie, so the first such failure
/// stays. Want of space is different: nothing was lost, and it ends.
/// Threads    The engine's strand.
class FailStop {
 public:
  /// `wake` is called whenever check() may answer differently: those who wait for something must look again.
  void on_change(std::function<void()> wake) { wake_ = std::move(wake); }

  bool failed() const { return static_cast<bool>(code_); }
  /// What check() would throw, or none.
  ErrorCode code() const;

  /// Remembers the first failure, and says so in the log; later ones change nothing.
  void record(const std::exception& error);
  bool short_of_space() const { return short_of_space_; }
  /// Writes are waiting for space on the host, or are no longer.
  void set_short_of_space(bool is_short);

  /// Throws the remembered failure; else ENOSPC while writes wait for space.
  void check() const;
  /// Throws the remembered failure.
  void check_failed() const;

 private:
  ErrorCode code_;
  std::string sentence_;
  bool short_of_space_ = false;
  std::function<void()> wake_;
};

}  // namespace core
