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
#include <cstring>
#include <ctime>
#include <thread>

#include "fuse/sandbox/landlock.h"
#include "fuse/sandbox/syscall_filter.h"

namespace fuse {
namespace {

// Of the calling thread: the kernel keeps them by thread, and no other thread can change them.
bool drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  return ::syscall(SYS_capset, &header, none.data()) == 0;
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
  const PathBarrier barrier;
  std::atomic<bool> dropped = true;
  std::atomic<bool> landlocked = barrier.available();
  engine.on_each_thread([&] {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);  // without capabilities Landlock asks for it
    if (!drop_capabilities()) dropped = false;
    if (barrier.available() && !barrier.raise()) landlocked = false;
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
