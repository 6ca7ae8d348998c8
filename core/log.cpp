#include "core/log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/unique_fd.h"

namespace core {
namespace {

spdlog::level::level_enum threshold(LogLevel level) {
  switch (level) {
    case LogLevel::silent: return spdlog::level::off;
    case LogLevel::normal: return spdlog::level::info;
    case LogLevel::debug: return spdlog::level::debug;
  }
  return spdlog::level::info;
}

void install(spdlog::sink_ptr sink, const char* pattern, LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("qcowfs", std::move(sink));
  logger->set_pattern(pattern);
  logger->set_level(threshold(level));
  logger->flush_on(spdlog::level::debug);  // a line that waits in a buffer is lost with the process it explains
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace

void log_to_stderr(LogLevel level) {
  install(std::make_shared<spdlog::sinks::stderr_sink_mt>(), "qcowfs: %l: %v", level);
}

void log_to_syslog(LogLevel level) {
  auto sink = std::make_shared<spdlog::sinks::syslog_sink_mt>("qcowfs", LOG_PID, LOG_DAEMON, true);
  install(std::move(sink), "%l: %v", level);
}

void log_to_file(const std::string& path, LogLevel level) {
  // The sink would make missing directories, which nobody who mistypes a name wants.
  const UniqueFd probe(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640));
  if (!probe.valid()) fail_errno(errno, path + ": cannot write the log");
  install(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path), "%Y-%m-%d %H:%M:%S.%e [%P] %l: %v", level);
}

}  // namespace core
