#include "core/fail_stop.h"

#include <spdlog/spdlog.h>

#include <cerrno>

namespace core {

ErrorCode FailStop::code() const {
  if (failed() || !short_of_space_) return code_;
  return ErrorCode(ENOSPC, boost::system::system_category());
}

void FailStop::record(const std::exception& error) {
  if (failed()) return;
  spdlog::error("writing failed, nothing more is accepted: {}", describe(error));
  const auto* known = dynamic_cast<const Error*>(&error);
  code_ = known != nullptr ? known->code() : make_error_code(Errc::device_failed);
  sentence_ = describe(error);
  if (wake_) wake_();
}

void FailStop::set_short_of_space(bool is_short) {
  if (short_of_space_ == is_short) return;
  short_of_space_ = is_short;
  if (is_short) {
    spdlog::error("no space left for the image: what was accepted is kept in memory; free some space and fsync again");
  }
  if (wake_) wake_();
}

void FailStop::check() const {
  check_failed();
  if (short_of_space_) fail_errno(ENOSPC, "no space left for the image");
}

void FailStop::check_failed() const {
  if (failed()) throw Error(code_, sentence_);
}

}  // namespace core
