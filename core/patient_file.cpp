#include "core/patient_file.h"

#include <cerrno>

namespace core {

bool means_no_space(const ErrorCode& code) {
  const bool of_the_system =
      code.category() == boost::system::system_category() || code.category() == boost::system::generic_category();
  return of_the_system && (code.value() == ENOSPC || code.value() == EDQUOT);
}

Awaitable<void> PatientFile::change(Awaitable<void> step) {
  health_.check_failed();
  try {
    co_await std::move(step);
  } catch (const std::exception& error) {
    health_.record(error);
    throw;
  }
}

Awaitable<bool> PatientFile::punch(FileOffset at, std::uint64_t length) {
  bool blank = false;
  auto step = [&]() -> Awaitable<void> { blank = co_await file_.punch(at, length); };
  co_await change(step());
  if (blank) punched_bytes_ += length;
  co_return blank;
}

Awaitable<void> PatientFile::barrier() { return change(file_.barrier()); }

Awaitable<void> PatientFile::write_at(FileOffset at, std::span<const Bytes> pieces) {
  return change(write_patiently(at, pieces));
}

// False where there is no space for it, unless that is final.
Awaitable<bool> PatientFile::try_write(FileOffset at, std::span<const Bytes> pieces) {
  health_.check_failed();
  bool written = false;
  try {
    co_await file_.write_at(at, pieces);
    written = true;
  } catch (const Error& error) {
    if (!patient_ || !means_no_space(error.code())) throw;
  }
  co_return written;
}

Awaitable<void> PatientFile::write_patiently(FileOffset at, std::span<const Bytes> pieces) {
  bool written = co_await try_write(at, pieces);
  while (!written) {
    ++waiting_;
    health_.set_short_of_space(true);
    retried_.wake_all();
    co_await space_.wait();
    std::exception_ptr error;
    try {
      written = co_await try_write(at, pieces);
    } catch (...) {
      error = std::current_exception();
    }
    --retrying_;
    retried_.wake_all();
    if (error) std::rethrow_exception(error);
  }
}

Awaitable<void> PatientFile::retry() {
  if (waiting_ != 0) {
    retrying_ += std::exchange(waiting_, 0);
    health_.set_short_of_space(false);
    space_.wake_all();
  }
  while (retrying_ != 0) co_await retried_.wait();
}

void PatientFile::give_up() {
  patient_ = false;
  retrying_ += std::exchange(waiting_, 0);
  space_.wake_all();
}

}  // namespace core
