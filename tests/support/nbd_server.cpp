#include "tests/support/nbd_server.h"

#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <thread>

namespace test {

NbdServer::NbdServer(const std::string& path) : socket_(path + ".sock") {
  std::array<std::string, 8> words = {
      "nbdkit", "--foreground", "--exit-with-parent", "--newstyle", "--unix", socket_, "file", path};
  std::array<char*, words.size() + 1> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  if (::posix_spawnp(&process_, "nbdkit", nullptr, nullptr, arguments.data(), environ) != 0) {
    throw std::runtime_error("nbdkit cannot be run");
  }
  for (int tries = 0; !std::filesystem::exists(socket_); ++tries) {
    if (tries == 1000) throw std::runtime_error("nbdkit does not listen");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

NbdServer::~NbdServer() {
  ::kill(process_, SIGTERM);
  ::waitpid(process_, nullptr, 0);
}

}  // namespace test
