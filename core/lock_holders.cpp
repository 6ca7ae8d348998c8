// /proc/locks has no process for locks of open file descriptions, which QEMU takes. /proc/PID/fdinfo/N lists the locks
// that belong to descriptor N.
#include "core/lock_holders.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace core {
namespace {

namespace fs = std::filesystem;

template <class Number>
std::optional<Number> number_in(const std::string& text) {
  Number value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc{}) return std::nullopt;
  return value;
}

// "lock: 1: OFDLCK  ADVISORY  READ -1 fe:00:1835023 100 100"; the last byte is "EOF" where there is none.
bool is_lock_within(const std::string& line, off_t first, off_t last) {
  if (!line.starts_with("lock:")) return false;
  std::istringstream words(line);
  std::string label, number, kind, advice, access, process, file, from, to;
  words >> label >> number >> kind >> advice >> access >> process >> file >> from >> to;
  if (kind != "OFDLCK" && kind != "POSIX") return false;
  const std::optional<off_t> begin = number_in<off_t>(from);
  const std::optional<off_t> end = number_in<off_t>(to);
  return begin && *begin <= last && (!end || *end >= first);
}

bool has_lock_within(const fs::path& descriptor_facts, off_t first, off_t last) {
  std::ifstream facts(descriptor_facts);
  for (std::string line; std::getline(facts, line);) {
    if (is_lock_within(line, first, last)) return true;
  }
  return false;
}

bool is_same_file(const fs::path& path, const struct stat& wanted) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 && facts.st_dev == wanted.st_dev && facts.st_ino == wanted.st_ino;
}

// The locks first: to look at what a descriptor leads to may take for ever, where that is a dead file server.
bool holds_lock(const fs::path& process, const struct stat& file, off_t first, off_t last) {
  std::error_code hidden;
  for (const fs::directory_entry& entry : fs::directory_iterator(process / "fdinfo", hidden)) {
    if (!has_lock_within(entry.path(), first, last)) continue;
    if (is_same_file(process / "fd" / entry.path().filename(), file)) return true;
  }
  return false;
}

std::string name_of(const fs::path& process) {
  std::string name;
  std::getline(std::ifstream(process / "comm"), name);
  // A program chooses it freely: it must not break out of the line.
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return name;
}

}  // namespace

std::vector<LockHolder> find_lock_holders(int descriptor, off_t first, off_t last) {
  std::vector<LockHolder> holders;
  struct stat file {};
  if (::fstat(descriptor, &file) != 0) return holders;
  std::error_code unmounted;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", unmounted)) {
    const std::optional<pid_t> process = number_in<pid_t>(entry.path().filename().string());
    if (!process || *process == ::getpid() || !holds_lock(entry.path(), file, first, last)) continue;
    holders.push_back({*process, name_of(entry.path())});
  }
  return holders;
}

}  // namespace core
