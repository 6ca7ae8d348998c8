#include "fuse/sandbox/syscall_filter.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <memory>
#include <new>
#include <type_traits>

namespace fuse {
namespace {

struct Release {
  void operator()(scmp_filter_ctx context) const { seccomp_release(context); }
};

// The first failure is kept. A system call that this machine does not have is no failure.
class Rules {
 public:
  Rules() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    if (context_ == nullptr) throw std::bad_alloc();
  }
  void allow(std::initializer_list<int> calls) {
    for (const int call : calls) note(seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call, 0, nullptr));
  }
  /// Where all of `conditions` hold.
  void allow(int call, std::initializer_list<scmp_arg_cmp> conditions) {
    note(seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call, static_cast<unsigned>(conditions.size()),
                                conditions.begin()));
  }
  void answer(int call, int error) {
    note(seccomp_rule_add_array(context_.get(), SCMP_ACT_ERRNO(static_cast<unsigned>(error)), call, 0, nullptr));
  }
  void set(scmp_filter_attr attribute, unsigned value) { note(seccomp_attr_set(context_.get(), attribute, value)); }
  /// 0 or an errno.
  int load() {
    if (error_ == 0) error_ = -seccomp_load(context_.get());
    return error_;
  }

 private:
  void note(int result) {
    if (result != 0 && error_ == 0) error_ = -result;
  }

  std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, Release> context_;
  int error_ = 0;
};

scmp_arg_cmp argument_is(unsigned index, scmp_datum_t value) { return {index, SCMP_CMP_EQ, value, 0}; }

scmp_arg_cmp bits_are(unsigned index, scmp_datum_t mask, scmp_datum_t value) {
  return {index, SCMP_CMP_MASKED_EQ, mask, value};
}

void allow_work_on_descriptors(Rules& rules) {
  rules.allow({SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
               SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(preadv2), SCMP_SYS(pwritev2)});
  rules.allow({SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(fallocate),
               SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64), SCMP_SYS(fadvise64), SCMP_SYS(lseek), SCMP_SYS(_llseek),
               SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(fstatfs), SCMP_SYS(fstatfs64)});
  rules.allow({SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fcntl), SCMP_SYS(fcntl64),
               SCMP_SYS(pipe2)});
  // How a C library may ask for the facts of a descriptor.
  rules.allow(SCMP_SYS(newfstatat), {bits_are(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});
  rules.allow(SCMP_SYS(fstatat64), {bits_are(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});
  rules.allow(SCMP_SYS(statx), {bits_are(2, AT_EMPTY_PATH, AT_EMPTY_PATH)});
  for (const scmp_datum_t request : {static_cast<scmp_datum_t>(FIONBIO), static_cast<scmp_datum_t>(SIOCOUTQ)}) {
    rules.allow(SCMP_SYS(ioctl), {argument_is(1, request)});
  }
}

void allow_waiting(Rules& rules) {
  rules.allow({SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
               SCMP_SYS(epoll_pwait2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create),
               SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_settime64)});
  rules.allow({SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep),
               SCMP_SYS(clock_nanosleep_time64), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time)});
  rules.allow({SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
               SCMP_SYS(restart_syscall)});
}

void allow_memory_and_threads(Rules& rules) {
  rules.allow({SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise)});
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(mprotect)}) {
    rules.allow(call, {bits_are(2, PROT_EXEC, 0)});
  }
  rules.allow({SCMP_SYS(futex), SCMP_SYS(futex_time64), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(membarrier),
               SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu), SCMP_SYS(exit),
               SCMP_SYS(exit_group), SCMP_SYS(wait4)});
  // Threads, no processes. What clone3 is asked for cannot be seen by a filter; without it, libc takes clone.
  rules.allow(SCMP_SYS(clone), {bits_are(0, CLONE_THREAD, CLONE_THREAD)});
  rules.answer(SCMP_SYS(clone3), ENOSYS);
  // abort() sends itself a signal.
  rules.allow(SCMP_SYS(tgkill), {argument_is(0, static_cast<scmp_datum_t>(::getpid()))});
  rules.allow(SCMP_SYS(prctl), {argument_is(0, PR_SET_NAME)});
  rules.allow(SCMP_SYS(prctl), {argument_is(0, PR_SET_VMA)});
  rules.allow({SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
               SCMP_SYS(getegid), SCMP_SYS(getrandom), SCMP_SYS(getrusage), SCMP_SYS(sysinfo), SCMP_SYS(uname),
               SCMP_SYS(setsid)});
  rules.allow(SCMP_SYS(prlimit64), {argument_is(2, 0)});  // asks
}

void allow_sockets(Rules& rules) {
  rules.allow({SCMP_SYS(accept4), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(sendto),
               SCMP_SYS(sendmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(shutdown), SCMP_SYS(connect)});
  rules.allow(SCMP_SYS(socket),
              {argument_is(0, AF_UNIX), bits_are(1, ~scmp_datum_t{SOCK_CLOEXEC | SOCK_NONBLOCK}, SOCK_DGRAM)});
}

}  // namespace

int filter_system_calls() {
  Rules rules;
  allow_work_on_descriptors(rules);
  allow_waiting(rules);
  allow_memory_and_threads(rules);
  allow_sockets(rules);
  rules.set(SCMP_FLTATR_CTL_TSYNC, 1);     // every thread
  rules.set(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree in place of a list
  rules.set(SCMP_FLTATR_CTL_SSB, 1);       // older kernels would slow the whole process down: it runs no foreign code
  return rules.load();
}

}  // namespace fuse
