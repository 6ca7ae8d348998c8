// How the command lines of the verbs beside mount are understood. Behind options.h, for its implementation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fuse/options.h"

namespace CLI {
class App;
}

namespace fuse {

/// Parses, and returns what is to be done instead of the verb where -h or -V ask for it. Throws UsageError.
std::optional<Command> parse_words(CLI::App& app, std::vector<std::string> words);

// `words` are those behind the verb. All throw UsageError.
Command parse_umount(const std::vector<std::string>& words);
Command parse_status(const std::vector<std::string>& words);
Command parse_create(const std::vector<std::string>& words);
Command parse_info(const std::vector<std::string>& words);
Command parse_compact(const std::vector<std::string>& words);
Command parse_check(const std::vector<std::string>& words);
Command parse_convert(const std::vector<std::string>& words);
Command parse_compare(const std::vector<std::string>& words);
Command parse_map(const std::vector<std::string>& words);
Command parse_snapshot(const std::vector<std::string>& words);

}  // namespace fuse
