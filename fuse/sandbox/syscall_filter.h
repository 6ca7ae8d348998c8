// Which system calls a serving daemon needs, and that it gets no others.
#pragma once

namespace fuse {

/// Every thread there is, and those to come, may from now on only work on what is open, make threads, and speak to
/// datagram sockets of this machine, where syslog and the service manager listen. Anything else fails with EPERM: no
/// path is opened, nothing is executed, no memory becomes code. Sets no_new_privs too. For good.
/// Returns 0, or an errno where the kernel does not let it: nothing has changed then.
int filter_system_calls();

}  // namespace fuse
