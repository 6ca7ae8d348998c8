#include "fuse/sandbox/sandbox.h"

#include <linux/capability.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <thread>

#include "core/unique_fd.h"
#include "fuse/sandbox/syscall_filter.h"

namespace fuse {
namespace {

// Of the calling thread: the kernel keeps them by thread, and no other thread can change them.
bool drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  return ::syscall(SYS_capset, &header, none.data()) == 0;
}

// Landlock (Documentation/userspace-api/landlock.rst). The system's headers may be older than the kernel, so what is
// newer than its first version is named here.
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

// A set of rules that handles every access and allows none; invalid where the kernel has no Landlock.
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

// What libc would read from files when it first needs it.
void prepare_libc() {
  ::tzset();  // /etc/localtime, for the lines of a log
#ifdef M_ARENA_MAX
  constexpr int arenas_by_processor = 8;  // its own choice, for which it would count the processors
  ::mallopt(M_ARENA_MAX, arenas_by_processor * static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
#endif
}

}  // namespace

std::string Confinement::describe() const {
  if (!system_calls) return "not confined: system calls cannot be filtered here: " + why_unfiltered;
  std::string text = "confined: system calls filtered";
  text += no_capabilities ? ", no capabilities" : ", capabilities kept";
  text += landlock ? ", no paths" : ", no Landlock in this kernel";
  return text;
}

Confinement confine(core::ThreadedEngine& engine) {
  prepare_libc();
  const core::UniqueFd rules = deny_everything();
  std::atomic<bool> dropped = true;
  std::atomic<bool> landlocked = rules.valid();
  engine.on_each_thread([&] {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);  // without capabilities Landlock asks for it
    if (!drop_capabilities()) dropped = false;
    if (rules.valid() && ::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) landlocked = false;
  });
  const int error = filter_system_calls();

  Confinement result;
  result.no_capabilities = dropped;
  result.landlock = landlocked;
  result.system_calls = error == 0;
  if (error != 0) result.why_unfiltered = std::strerror(error);
  return result;
}

}  // namespace fuse
