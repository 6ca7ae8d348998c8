#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "core/unique_fd.h"

// One datagram, to a path or to an abstract name that is written with an @.
int sd_notify(int, const char* state) {
  const char* const target = std::getenv("NOTIFY_SOCKET");
  if (target == nullptr) return 0;
  const std::string_view name(target);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() > sizeof(address.sun_path)) return -EINVAL;
  std::copy(name.begin(), name.end(), address.sun_path);
  if (name.front() == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());

  const core::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::string_view text(state);
  const auto* const to = reinterpret_cast<const sockaddr*>(&address);
  return ::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, to, size) < 0 ? -errno : 1;
}
