// Behind the barrier nothing is opened by a path, and what is open can still be used.
#include "fuse/sandbox/landlock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

namespace {

bool is_refused(int descriptor) { return descriptor < 0 && errno == EACCES; }

// In a process of its own, as there is no way back. 0, or the number of what was wrong.
int look_behind_the_barrier(const fuse::PathBarrier& barrier, int open_file, int open_folder) {
  char byte = 0;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !barrier.raise()) return 1;
  if (!is_refused(::open("/etc/passwd", O_RDONLY))) return 2;
  if (!is_refused(::open("/dev/null", O_WRONLY))) return 3;
  if (!is_refused(::openat(open_folder, "passwd", O_RDONLY))) return 4;
  if (!is_refused(::open("/", O_RDONLY | O_DIRECTORY))) return 5;
  if (::mkdir("/tmp/qcowfs-no-such-folder", 0700) == 0 || errno != EACCES) return 6;
  if (::pwrite(open_file, "x", 1, 0) != 1 || ::pread(open_file, &byte, 1, 0) != 1 || byte != 'x') return 7;
  if (::ftruncate(open_file, 100) != 0 || ::fsync(open_file) != 0) return 8;
  return 0;
}

TEST(Landlock, ClosesPathsAndLeavesDescriptors) {
  const fuse::PathBarrier barrier;
  if (!barrier.available()) GTEST_SKIP() << "this kernel has no Landlock, or it is switched off";
  std::string name = testing::TempDir() + "landlock-XXXXXX";
  const core::UniqueFd file(::mkstemp(name.data()));
  ::unlink(name.c_str());
  const core::UniqueFd folder(::open("/etc", O_RDONLY | O_DIRECTORY));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(look_behind_the_barrier(barrier, file.get(), folder.get()));
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
