// Tells the service manager that started us how far we are, where it asked for that: NOTIFY_SOCKET, see sd_notify(3).
#pragma once

namespace fuse {

/// The mount can be used, and this process is the one that serves it.
void tell_service_manager_ready();

/// The mount is on its way out: what was written is being stored.
void tell_service_manager_stopping();

}  // namespace fuse
