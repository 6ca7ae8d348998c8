// Where log lines go. Whoever logs calls spdlog::info() and its sisters; this decides once who reads them.
#pragma once

#include <string>

namespace core {

enum class LogLevel { silent, normal, debug };  ///< silent: for who learns of every failure by an exception, and tells

/// For a person at a terminal.
void log_to_stderr(LogLevel level);
/// For a daemon: its stderr is gone.
void log_to_syslog(LogLevel level);
/// Appends to `path`. Throws core::Error where that cannot be opened.
void log_to_file(const std::string& path, LogLevel level);

}  // namespace core
