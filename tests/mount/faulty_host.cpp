// Preloaded into the daemon by host_faults_test.py: stands between it and one file of the host, the image, and
// answers as a bad day would: interrupted, short, with an error from the k-th call on, or full.
//
// FAULTY_FILE     the image. Every other file is passed through
// FAULTY_REFUSES  what the file system of the image does not have: words of direct, locks, facts (of statx)
// FAULTY_CONTROL  a file of the size of Control that the test maps too: knobs to the library, counts from it
//
// "Full" is that of a file system that writes in place: what has space, because it was written or set aside, can be
// written again; what needs space cannot.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace {

using Number = std::atomic<std::uint64_t>;

enum Kind { reading, writing, syncing, allocating, truncating, kinds };

// host_faults_test.py has the same in words.
struct Knobs {
  Number calls;              ///< counted by the library, from 1
  Number interrupt_percent;  ///< of the calls that answer EINTR and do nothing
  Number shorten_percent;    ///< of the transfers that do a part only
  Number fail_from;          ///< the first of the calls that fail; 0: none
  Number fail_count;         ///< how many fail from there
  Number error;              ///< with this errno
  Number failed;             ///< counted by the library: calls that fail_from or `full` made fail
  Number bent;               ///< counted by the library: interrupted and short calls
};

struct Control {
  Number seed;
  Number full;
  Knobs of[kinds];
};

// Ranges of the file that have space. Not exact for what is smaller than a block, which does not matter here.
class Space {
 public:
  void add(std::uint64_t begin, std::uint64_t end) {
    auto next = ranges_.upper_bound(begin);
    if (next != ranges_.begin() && std::prev(next)->second >= begin) --next;
    while (next != ranges_.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = ranges_.erase(next);
    }
    if (begin < end) ranges_[begin] = end;
  }
  void remove(std::uint64_t begin, std::uint64_t end) {
    if (begin >= end) return;
    add(begin, end);  // now one range holds all of it
    const auto found = std::prev(ranges_.upper_bound(begin));
    const auto [first, last] = *found;
    ranges_.erase(found);
    if (first < begin) ranges_[first] = begin;
    if (end < last) ranges_[end] = last;
  }
  bool has(std::uint64_t begin, std::uint64_t end) const {
    const auto next = ranges_.upper_bound(begin);
    return next != ranges_.begin() && std::prev(next)->second >= end;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
};

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "faulty_host: %s\n", what);
  std::abort();
}

class Host {
 public:
  static Host& get() {
    static Host& host = *new Host;  // outlives every thread of the daemon
    return host;
  }

  bool is_ours(int fd) {
    struct stat facts {};
    if (::fstat(fd, &facts) != 0 || facts.st_dev != device_ || facts.st_ino != inode_) return false;
    std::call_once(surveyed_, [&] { survey(fd, facts.st_size); });
    return true;
  }

  // Counts the call. Returns the errno that it must answer without doing anything, or 0.
  int fate(Kind kind) {
    Knobs& knobs = control_->of[kind];
    const std::uint64_t call = ++knobs.calls;
    const std::uint64_t from = knobs.fail_from;
    if (from != 0 && call >= from && call - from < knobs.fail_count) {
      ++knobs.failed;
      return static_cast<int>(knobs.error);
    }
    if (happens(knobs.interrupt_percent)) {
      ++knobs.bent;
      return EINTR;
    }
    return 0;
  }

  // How much of a transfer of `length` bytes is done: a part only now and then. With O_DIRECT a device stops between
  // two of its blocks.
  std::size_t part_of(Kind kind, int fd, std::size_t length) {
    Knobs& knobs = control_->of[kind];
    const std::size_t unit = (::fcntl(fd, F_GETFL) & O_DIRECT) != 0 ? block_size_ : 1;
    const std::size_t units = length / unit;
    if (units < 2 || length % unit != 0 || !happens(knobs.shorten_percent)) return length;
    ++knobs.bent;
    return (1 + random() % (units - 1)) * unit;
  }

  bool no_space_for(Kind kind, off_t at, std::uint64_t length) {
    if (control_->full == 0) return false;
    const std::lock_guard lock(mutex_);
    const auto begin = static_cast<std::uint64_t>(at);
    if (space_.has(begin, begin + length)) return false;
    ++control_->of[kind].failed;
    return true;
  }
  void took(off_t at, std::uint64_t length) {
    const std::lock_guard lock(mutex_);
    space_.add(static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(at) + length);
  }
  void gave_back(off_t at, std::uint64_t end) {
    const std::lock_guard lock(mutex_);
    space_.remove(static_cast<std::uint64_t>(at), end);
  }

 private:
  Host() {
    const char* const path = std::getenv("FAULTY_FILE");
    const char* const control = std::getenv("FAULTY_CONTROL");
    struct stat facts {};
    if (path == nullptr || control == nullptr || ::stat(path, &facts) != 0) give_up("no FAULTY_FILE or FAULTY_CONTROL");
    device_ = facts.st_dev;
    inode_ = facts.st_ino;
    const int fd = ::open(control, O_RDWR | O_CLOEXEC);
    void* const memory = ::mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || memory == MAP_FAILED) give_up("cannot map FAULTY_CONTROL");
    ::close(fd);
    control_ = static_cast<Control*>(memory);
    state_ = control_->seed.load();
  }

  void survey(int fd, off_t size) {
    struct statx facts {};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) == 0 && facts.stx_dio_offset_align != 0) {
      block_size_ = std::max<std::size_t>(512, facts.stx_dio_offset_align);
    }
    for (off_t at = 0; at < size;) {
      const off_t data = ::lseek(fd, at, SEEK_DATA);
      if (data < 0) break;
      at = ::lseek(fd, data, SEEK_HOLE);
      took(data, static_cast<std::uint64_t>(at - data));
    }
  }

  bool happens(std::uint64_t percent) { return percent != 0 && random() % 100 < percent; }

  std::uint64_t random() {  // splitmix64
    std::uint64_t mixed = state_.fetch_add(0x9e3779b97f4a7c15) + 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }

  dev_t device_ = 0;
  ino_t inode_ = 0;
  Control* control_ = nullptr;
  Number state_ = 0;
  std::size_t block_size_ = 4096;
  std::once_flag surveyed_;
  std::mutex mutex_;
  Space space_;
};

template <class Function>
Function* real(const char* name) {
  void* const found = ::dlsym(RTLD_NEXT, name);
  if (found == nullptr) give_up(name);
  return reinterpret_cast<Function*>(found);
}

template <class Result = int>
Result answer(int error) {
  errno = error;
  return -1;
}

using Read = ssize_t(int, void*, std::size_t, off_t);
using Write = ssize_t(int, const void*, std::size_t, off_t);
using Vector = ssize_t(int, const iovec*, int, off_t);
using Sync = int(int);
using Allocate = int(int, int, off_t, off_t);
using Truncate = int(int, off_t);
using Control3 = int(int, int, long);
using Facts = int(int, const char*, int, unsigned, struct statx*);

bool refuses(const char* word) {
  const char* const words = std::getenv("FAULTY_REFUSES");
  return words != nullptr && std::strstr(words, word) != nullptr;
}

// The first `length` bytes of the pieces.
std::vector<iovec> front(const iovec* pieces, int count, std::size_t length) {
  std::vector<iovec> kept;
  for (int index = 0; index < count && length > 0; ++index) {
    const std::size_t part = std::min(length, pieces[index].iov_len);
    kept.push_back({pieces[index].iov_base, part});
    length -= part;
  }
  return kept;
}

std::size_t total(const iovec* pieces, int count) {
  std::size_t sum = 0;
  for (int index = 0; index < count; ++index) sum += pieces[index].iov_len;
  return sum;
}

ssize_t read_vector(Vector* next, int fd, const iovec* pieces, int count, off_t at) {
  Host& host = Host::get();
  if (!host.is_ours(fd)) return next(fd, pieces, count, at);
  if (const int error = host.fate(reading)) return answer<ssize_t>(error);
  const std::vector<iovec> part = front(pieces, count, host.part_of(reading, fd, total(pieces, count)));
  return next(fd, part.data(), static_cast<int>(part.size()), at);
}

ssize_t write_vector(Vector* next, int fd, const iovec* pieces, int count, off_t at) {
  Host& host = Host::get();
  if (!host.is_ours(fd)) return next(fd, pieces, count, at);
  if (const int error = host.fate(writing)) return answer<ssize_t>(error);
  const std::size_t length = host.part_of(writing, fd, total(pieces, count));
  if (host.no_space_for(writing, at, length)) return answer<ssize_t>(ENOSPC);
  const std::vector<iovec> part = front(pieces, count, length);
  const ssize_t done = next(fd, part.data(), static_cast<int>(part.size()), at);
  if (done > 0) host.took(at, static_cast<std::uint64_t>(done));
  return done;
}

int sync(Sync* next, int fd) {
  Host& host = Host::get();
  if (!host.is_ours(fd)) return next(fd);
  if (const int error = host.fate(syncing)) return answer(error);
  return next(fd);
}

int allocate(Allocate* next, int fd, int mode, off_t at, off_t length) {
  Host& host = Host::get();
  if (!host.is_ours(fd)) return next(fd, mode, at, length);
  if (const int error = host.fate(allocating)) return answer(error);
  const bool gives_back = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const auto size = static_cast<std::uint64_t>(length);
  if (!gives_back && host.no_space_for(allocating, at, size)) return answer(ENOSPC);
  const int result = next(fd, mode, at, length);
  if (result == 0 && gives_back) host.gave_back(at, static_cast<std::uint64_t>(at) + size);
  if (result == 0 && !gives_back) host.took(at, size);
  return result;
}

int truncate_file(Truncate* next, int fd, off_t size) {
  Host& host = Host::get();
  if (!host.is_ours(fd)) return next(fd, size);
  if (const int error = host.fate(truncating)) return answer(error);
  const int result = next(fd, size);
  if (result == 0) host.gave_back(size, UINT64_MAX);
  return result;
}

int control(Control3* next, int fd, int command, long argument) {
  const bool lock = command == F_OFD_SETLK || command == F_OFD_GETLK;
  const bool direct = command == F_SETFL && (argument & O_DIRECT) != 0;
  if (lock && refuses("locks") && Host::get().is_ours(fd)) return answer(ENOLCK);
  if (direct && refuses("direct") && Host::get().is_ours(fd)) return answer(EINVAL);
  return next(fd, command, argument);
}

// Of any file: finding out whether it is the image asks for facts too.
int ask_facts(Facts* next, int folder, const char* path, int flags, unsigned mask, struct statx* facts) {
  const int result = next(folder, path, flags, mask, facts);
  if (result == 0 && refuses("facts")) facts->stx_mask &= ~unsigned{STATX_DIOALIGN};
  return result;
}

}  // namespace

// The names of the C library, each with and without its 64. A transfer of one piece is one of a vector.
#pragma GCC visibility push(default)
extern "C" {

ssize_t faulty_pread(int fd, void* target, std::size_t length, off_t at) {
  static Vector* const next = real<Vector>("preadv64");
  const iovec piece{target, length};
  return read_vector(next, fd, &piece, 1, at);
}
ssize_t faulty_preadv(int fd, const iovec* pieces, int count, off_t at) {
  static Vector* const next = real<Vector>("preadv64");
  return read_vector(next, fd, pieces, count, at);
}
ssize_t faulty_pwrite(int fd, const void* source, std::size_t length, off_t at) {
  static Vector* const next = real<Vector>("pwritev64");
  const iovec piece{const_cast<void*>(source), length};  // iovec has no const form
  return write_vector(next, fd, &piece, 1, at);
}
ssize_t faulty_pwritev(int fd, const iovec* pieces, int count, off_t at) {
  static Vector* const next = real<Vector>("pwritev64");
  return write_vector(next, fd, pieces, count, at);
}
int faulty_fdatasync(int fd) {
  static Sync* const next = real<Sync>("fdatasync");
  return sync(next, fd);
}
int faulty_fsync(int fd) {
  static Sync* const next = real<Sync>("fsync");
  return sync(next, fd);
}
int faulty_fallocate(int fd, int mode, off_t at, off_t length) {
  static Allocate* const next = real<Allocate>("fallocate64");
  return allocate(next, fd, mode, at, length);
}
int faulty_ftruncate(int fd, off_t size) {
  static Truncate* const next = real<Truncate>("ftruncate64");
  return truncate_file(next, fd, size);
}
// In C it takes any number of arguments: the third comes in the same register either way.
int faulty_fcntl(int fd, int command, long argument) {
  static Control3* const next = real<Control3>("fcntl64");
  return control(next, fd, command, argument);
}
int faulty_statx(int folder, const char* path, int flags, unsigned mask, struct statx* facts) {
  static Facts* const next = real<Facts>("statx");
  return ask_facts(next, folder, path, flags, mask, facts);
}

}  // extern "C"

// Bound by name: the headers' own declarations of these names carry attributes that differ between libraries.
#define ALSO(ours, name) __asm__(".globl " #name "\n.type " #name ", @function\n.set " #name ", " #ours "\n")
ALSO(faulty_pread, pread);
ALSO(faulty_pread, pread64);
ALSO(faulty_preadv, preadv);
ALSO(faulty_preadv, preadv64);
ALSO(faulty_pwrite, pwrite);
ALSO(faulty_pwrite, pwrite64);
ALSO(faulty_pwritev, pwritev);
ALSO(faulty_pwritev, pwritev64);
ALSO(faulty_fdatasync, fdatasync);
ALSO(faulty_fsync, fsync);
ALSO(faulty_fallocate, fallocate);
ALSO(faulty_fallocate, fallocate64);
ALSO(faulty_ftruncate, ftruncate);
ALSO(faulty_ftruncate, ftruncate64);
ALSO(faulty_fcntl, fcntl);
ALSO(faulty_fcntl, fcntl64);
ALSO(faulty_statx, statx);
