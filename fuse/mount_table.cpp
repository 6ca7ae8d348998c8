#include "fuse/mount_table.h"

#include <filesystem>
#include <fstream>
#include <vector>

#include "core/error.h"

namespace fuse {
namespace {

namespace fs = std::filesystem;

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const std::size_t end = line.find(' ');
    if (end != 0) fields.push_back(line.substr(0, end));
    line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  }
  return fields;
}

bool is_octal(char digit) { return digit >= '0' && digit <= '7'; }

// Blanks, tabs, newlines and backslashes stand there as a backslash and three octal digits.
std::string unescape(std::string_view field) {
  std::string text;
  for (std::size_t at = 0; at < field.size(); ++at) {
    if (field[at] == '\\' && at + 3 < field.size() && is_octal(field[at + 1]) && is_octal(field[at + 2]) &&
        is_octal(field[at + 3])) {
      text += static_cast<char>((field[at + 1] - '0') * 64 + (field[at + 2] - '0') * 8 + (field[at + 3] - '0'));
      at += 3;
    } else {
      text += field[at];
    }
  }
  return text;
}

std::string owner_in(std::string_view super_options) {
  constexpr std::string_view key = "user_id=";
  const std::size_t at = super_options.find(key);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = super_options.substr(at + key.size());
  return std::string(rest.substr(0, rest.find(',')));
}

[[noreturn]] void no_such_mountpoint(const std::error_code& code, const std::string& path) {
  const bool missing = code == std::errc::no_such_file_or_directory;
  core::fail(
      core::ErrorCode(code.value(), boost::system::system_category()),
      path + ": no such mount point: " + code.message() + (missing ? "; make the folder first: mkdir " + path : ""));
}

}  // namespace

// id parent major:minor root mountpoint options [tag...] - type source super-options
std::optional<MountEntry> parse_mount_line(std::string_view line) {
  const std::vector<std::string_view> fields = fields_of(line);
  std::size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 3 >= fields.size()) return std::nullopt;
  MountEntry entry;
  entry.device = fields[2];
  entry.mountpoint = unescape(fields[4]);
  entry.type = unescape(fields[dash + 1]);
  entry.source = unescape(fields[dash + 2]);
  entry.owner = owner_in(fields[dash + 3]);
  return entry;
}

std::optional<MountEntry> find_mount(const std::string& mountpoint) {
  std::ifstream table("/proc/self/mountinfo");
  std::optional<MountEntry> found;
  for (std::string line; std::getline(table, line);) {
    std::optional<MountEntry> entry = parse_mount_line(line);
    if (entry && entry->mountpoint == mountpoint) found = std::move(entry);  // the last one lies on top
  }
  return found;
}

std::string canonical_mountpoint(const std::string& path) {
  std::error_code code;
  fs::path full = fs::absolute(path, code).lexically_normal();
  if (full.filename().empty() && full.has_relative_path()) full = full.parent_path();  // a slash at the end
  fs::path parent = fs::canonical(full.parent_path(), code);
  if (code) no_such_mountpoint(code, path);
  // The last step is looked at only where nothing is mounted on it: it may be a symbolic link.
  const fs::path direct = parent / full.filename();
  if (find_mount(direct.string())) return direct.string();
  const fs::path resolved = fs::canonical(direct, code);
  if (code) no_such_mountpoint(code, path);
  return resolved.string();
}

}  // namespace fuse
