#include "fuse/standard_streams.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "core/error.h"

namespace fuse {
namespace {

// Whether the call may be repeated. Whoever shares the stream with us may have made it non-blocking.
bool worth_another_try(int descriptor, short event) {
  if (errno == EINTR) return true;
  if (errno != EAGAIN) return false;
  pollfd wanted{descriptor, event, 0};
  ::poll(&wanted, 1, -1);
  return true;
}

}  // namespace

std::size_t read_stream(int descriptor, core::MutableBytes target) {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t got = ::read(descriptor, target.data() + done, target.size() - done);
    if (got == 0) break;
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (!worth_another_try(descriptor, POLLIN)) {
      core::fail_errno(errno, "reading stdin");
    }
  }
  return done;
}

void write_stream(int descriptor, core::Bytes source) {
  while (!source.empty()) {
    const ssize_t written = ::write(descriptor, source.data(), source.size());
    if (written >= 0) {
      source = source.subspan(static_cast<std::size_t>(written));
    } else if (!worth_another_try(descriptor, POLLOUT)) {
      core::fail_errno(errno, "writing to stdout");
    }
  }
}

void print_part(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0) core::fail_errno(errno, "writing to stdout");
}

void print(const std::string& text) {
  print_part(text);
  if (std::fflush(stdout) != 0) core::fail_errno(errno, "writing to stdout");
}

}  // namespace fuse
