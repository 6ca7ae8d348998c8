// A server for one image file, for tests that are no scripts.
#pragma once

#include <sys/types.h>

#include <string>

namespace test {

/// nbdkit over the file at `path`, on a socket beside it, until this object is gone. Throws std::runtime_error where
/// it does not start.
class NbdServer {
 public:
  explicit NbdServer(const std::string& path);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;
  ~NbdServer();
  std::string uri() const { return "nbd+unix:///?socket=" + socket_; }

 private:
  std::string socket_;
  pid_t process_ = -1;
};

}  // namespace test
