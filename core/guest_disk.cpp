#include "core/guest_disk.h"

#include <cerrno>

namespace core {

Awaitable<void> GuestDisk::compact(const CompactOrder&) {
  fail_errno(EOPNOTSUPP, "this kind of disk cannot be made smaller in place");
  co_return;
}

}  // namespace core
