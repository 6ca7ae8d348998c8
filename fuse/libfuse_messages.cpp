#include "fuse/libfuse_messages.h"

#include <fcntl.h>
#include <fuse3/fuse_log.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

namespace fuse {
namespace {

spdlog::level::level_enum level_of(fuse_log_level level) {
  if (level <= FUSE_LOG_ERR) return spdlog::level::err;
  if (level == FUSE_LOG_WARNING) return spdlog::level::warn;
  return level == FUSE_LOG_DEBUG ? spdlog::level::debug : spdlog::level::info;
}

void to_log(fuse_log_level level, const char* format, std::va_list arguments) {
  std::array<char, 1024> text;
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length <= 0) return;
  std::string_view line(text.data());
  while (line.ends_with('\n')) line.remove_suffix(1);
  spdlog::log(level_of(level), "{}", line);
}

void to_stderr(fuse_log_level, const char* format, std::va_list arguments) {
  ::vdprintf(STDERR_FILENO, format, arguments);
}

}  // namespace

LibfuseMessages::LibfuseMessages() {
  collected_.reset(::memfd_create("qcowfs-messages", MFD_CLOEXEC));
  stderr_.reset(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
  if (collected_.valid() && stderr_.valid()) ::dup2(collected_.get(), STDERR_FILENO);
  fuse_set_log_func(to_stderr);
}

LibfuseMessages::~LibfuseMessages() {
  if (stderr_.valid()) ::dup2(stderr_.get(), STDERR_FILENO);
  fuse_set_log_func(to_log);
}

std::string LibfuseMessages::last_line() const {
  std::array<char, 4096> text;
  const ssize_t length = ::pread(collected_.get(), text.data(), text.size(), 0);
  std::string_view said(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  while (said.ends_with('\n')) said.remove_suffix(1);
  said.remove_prefix(said.rfind('\n') + 1);  // npos + 1 is 0
  for (const std::string_view speaker : {"fuse: ", "fusermount3: "}) {
    if (said.starts_with(speaker)) said.remove_prefix(speaker.size());
  }
  return said.empty() ? "no reason given" : std::string(said);
}

}  // namespace fuse
