// The name of a mount's control socket, and what is said on it.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <string>

namespace fuse {

// The daemon says `ending` when no more requests can come, now and then how many bytes are `left` to be stored, and one
// line with the result: `stored`, or
// `failed` and the reason. The end of the stream is the end of the process: by then the image is closed.
namespace control_words {
inline constexpr const char* ending = "ending";
inline constexpr const char* left = "left ";
inline constexpr const char* stored = "stored";
inline constexpr const char* failed = "failed ";
}  // namespace control_words

/// Named after the mount's device number, "major:minor", which is the mount's alone while it lives; what
/// comes next may get it while the old daemon still writes. The name is abstract: no file is left behind.
class ControlAddress {
 public:
  explicit ControlAddress(const std::string& device) {
    const std::string name = "qcowfs/" + device;
    address_.sun_family = AF_UNIX;
    const std::size_t length = std::min(name.size(), sizeof(address_.sun_path) - 1);
    std::copy_n(name.begin(), length, address_.sun_path + 1);  // a NUL in front makes it abstract
    size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  }

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t size() const { return size_; }

 private:
  sockaddr_un address_{};
  socklen_t size_ = 0;
};

}  // namespace fuse
