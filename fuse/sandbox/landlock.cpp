#include "fuse/sandbox/landlock.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace fuse {
namespace {

// The system's headers may be older than the kernel, so what is newer than the first version is named here.
struct RulesetAttributes {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;
};
constexpr std::uint32_t ask_for_version = 1;
constexpr std::uint64_t file_accesses_of_version_1 = (1 << 13) - 1;
constexpr std::uint64_t refer = 1 << 13;          // version 2
constexpr std::uint64_t truncate = 1 << 14;       // version 3
constexpr std::uint64_t bind_and_connect = 0b11;  // version 4: TCP
constexpr std::uint64_t ioctl_device = 1 << 15;   // version 5

core::UniqueFd deny_everything() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, ask_for_version);
  if (version < 1) return {};
  RulesetAttributes handled{file_accesses_of_version_1, 0};
  if (version >= 2) handled.handled_access_fs |= refer;
  if (version >= 3) handled.handled_access_fs |= truncate;
  if (version >= 5) handled.handled_access_fs |= ioctl_device;
  if (version >= 4) handled.handled_access_net = bind_and_connect;
  const std::size_t size = version >= 4 ? sizeof(handled) : sizeof(handled.handled_access_fs);
  return core::UniqueFd(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &handled, size, 0)));
}

}  // namespace

PathBarrier::PathBarrier() : rules_(deny_everything()) {}

bool PathBarrier::raise() const { return ::syscall(SYS_landlock_restrict_self, rules_.get(), 0) == 0; }

}  // namespace fuse
