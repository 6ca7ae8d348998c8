// After one failed write or barrier nobody knows what the device holds: retrying would lie. The first error stays.
#pragma once

#include <exception>

#include "core/error.h"

namespace core {

/// The sticky error of one disk. Belongs to the engine's strand.
class FailStop {
 public:
  bool failed() const { return static_cast<bool>(code_); }
  ErrorCode code() const { return code_; }

  /// Remembers the first failure; later ones change nothing.
  void record(const std::exception& error) {
    if (failed()) return;
    const auto* known = dynamic_cast<const Error*>(&error);
    code_ = known != nullptr ? known->code() : make_error_code(Errc::device_failed);
    sentence_ = describe(error);
  }
  /// Throws the remembered failure.
  void check() const {
    if (failed()) throw Error(code_, sentence_);
  }

 private:
  ErrorCode code_;
  std::string sentence_;
};

}  // namespace core
