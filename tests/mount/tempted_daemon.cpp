// Preloaded into the daemon by sandbox_test.py: what somebody would try who had taken the daemon over, in whichever
// thread gets SIGUSR2. Each attempt is harmless where it succeeds.
//
// TEMPTED_RESULTS  a file: a line for each attempt is appended, "THREAD ATTEMPT ERRNO"; 0 where it succeeded
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

int results = -1;
int root_folder = -1;  // open before, as a daemon's descriptors are
constexpr const char* nowhere = "/no/such/place";

void note(const char* attempt, long result) {
  const int error = result < 0 ? errno : 0;
  char line[128];
  const int length = std::snprintf(line, sizeof(line), "%ld %s %d\n", ::syscall(SYS_gettid), attempt, error);
  [[maybe_unused]] const ssize_t written = ::write(results, line, static_cast<std::size_t>(length));
}

// A descriptor that was had is given back.
void note_opened(const char* attempt, long descriptor) {
  note(attempt, descriptor);
  if (descriptor >= 0) ::close(static_cast<int>(descriptor));
}

void try_paths() {
  struct stat facts {};
  note_opened("open", ::open("/etc/passwd", O_RDONLY));
  note_opened("open-to-write", ::open("/dev/null", O_WRONLY));
  note_opened("open-by-folder", ::openat(root_folder, "etc/passwd", O_RDONLY));
  note_opened("open-path", ::open("/", O_PATH));
  note_opened("open-own-descriptor", ::open("/proc/self/fd/0", O_RDONLY));
  note("stat", ::syscall(SYS_stat, "/etc/passwd", &facts));
  note("unlink", ::unlink(nowhere));
  note("rename", ::rename(nowhere, nowhere));
  note("symlink", ::symlink(nowhere, nowhere));
  note("mkdir", ::mkdir(nowhere, 0700));
  note("chmod", ::chmod(nowhere, 0700));
  note("chown", ::chown(nowhere, 0, 0));
  note("chdir", ::chdir("/"));
  note("mknod", ::mknod(nowhere, S_IFIFO, 0));
  note("open-by-handle", ::syscall(SYS_open_by_handle_at, -1, nullptr, 0));
}

void try_programs() {
  char* const words[] = {nullptr};
  note("execute", ::execve(nowhere, words, words));
  const long child = ::syscall(SYS_fork);
  if (child == 0) ::_exit(0);
  note("fork", child);
  if (child > 0) ::waitpid(static_cast<pid_t>(child), nullptr, 0);
  note("signal", ::kill(::getpid(), 0));
  note("signal-another", ::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0));
  note("trace", ::syscall(SYS_ptrace, PTRACE_ATTACH, -1, 0, 0));
  note("read-another", ::syscall(SYS_process_vm_readv, 0, nullptr, 0, nullptr, 0, 0));
  note("observe", ::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0));
}

void try_code() {
  constexpr std::size_t page = 4096;
  void* const data = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  note("data-into-code", ::mprotect(data, page, PROT_READ | PROT_EXEC));
  ::munmap(data, page);
  void* const code = ::mmap(nullptr, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  note("map-code", code == MAP_FAILED ? -1 : 0);
  if (code != MAP_FAILED) ::munmap(code, page);
  note_opened("file-in-memory", ::syscall(SYS_memfd_create, "x", 0));
}

void try_network() {
  note_opened("internet-stream", ::socket(AF_INET, SOCK_STREAM, 0));
  note_opened("internet-datagram", ::socket(AF_INET, SOCK_DGRAM, 0));
  note_opened("local-stream", ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  note_opened("netlink", ::socket(AF_NETLINK, SOCK_RAW, 0));
  note_opened("packets", ::socket(AF_PACKET, SOCK_RAW, 0));
}

void try_system() {
  note("mount", ::mount(nowhere, nowhere, "tmpfs", 0, nullptr));
  note("unmount", ::umount2(nowhere, 0));
  note("unshare", ::unshare(0));
  note("enter-namespace", ::setns(-1, 0));
  note("set-user", ::setuid(::getuid()));
  note("set-group", ::setgid(::getgid()));
  note("set-host-name", ::syscall(SYS_sethostname, nullptr, 4096));
  note("load-module", ::syscall(SYS_init_module, nullptr, 0, ""));
  note("load-program", ::syscall(SYS_bpf, -1, nullptr, 0));
  note("change-root", ::chroot(nowhere));
  note("type-into-terminal", ::ioctl(STDIN_FILENO, TIOCSTI, ""));
  note("set-dumpable", ::prctl(PR_SET_DUMPABLE, ::prctl(PR_GET_DUMPABLE)));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct capabilities[2] = {};
  note("see-capabilities", ::syscall(SYS_capget, &header, capabilities));
}

void try_everything(int) {
  const int error = errno;
  try_paths();
  try_programs();
  try_code();
  try_network();
  try_system();
  note("done", 0);
  errno = error;
}

__attribute__((constructor)) void prepare() {
  const char* const path = std::getenv("TEMPTED_RESULTS");
  if (path == nullptr) return;
  results = ::open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  root_folder = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = try_everything;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR2, &action, nullptr);
}

}  // namespace
