#include "fuse/errno_map.h"

#include <cerrno>
#include <new>

namespace fuse {
namespace {

int of_our_own(core::Errc code) {
  switch (code) {
    case core::Errc::corrupt_image: return EIO;
    case core::Errc::unsupported_feature: return EOPNOTSUPP;
    case core::Errc::image_locked: return EBUSY;
    case core::Errc::device_failed: return EIO;
    case core::Errc::bad_argument: return EINVAL;
    case core::Errc::read_only: return EROFS;
    case core::Errc::image_too_small: return EFBIG;
  }
  return EIO;
}

// Numbers that would send the asker on the wrong way: they speak of our own calls, not of the asker's.
int of_the_system(int error_number) {
  switch (error_number) {
    case EINTR:
    case EAGAIN:
    case EBADF:
    case EFAULT: return EIO;
    default: return error_number > 0 ? error_number : EIO;
  }
}

}  // namespace

int to_errno(const core::ErrorCode& code) {
  if (code.category() == core::error_category()) return of_our_own(static_cast<core::Errc>(code.value()));
  if (code.category() == boost::system::system_category() || code.category() == boost::system::generic_category()) {
    return of_the_system(code.value());
  }
  return EIO;
}

int to_errno(const std::exception& error) {
  if (const auto* known = dynamic_cast<const core::Error*>(&error)) return to_errno(known->code());
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return ENOMEM;
  return EIO;
}

}  // namespace fuse
