#include "fuse/loop_devices.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "core/unique_fd.h"
#include "fuse/mount_table.h"

namespace fuse {
namespace {

namespace fs = std::filesystem;

bool lies_at_or_below(std::string_view path, std::string_view folder) {
  if (!path.starts_with(folder)) return false;
  return path.size() == folder.size() || path[folder.size()] == '/';
}

// "/dev/loop1" is no part of "/dev/loop10"; "/dev/loop1p2" is one of "/dev/loop1".
bool is_or_is_part_of(std::string_view source, const std::string& device) {
  if (source == device) return true;
  if (!source.starts_with(device + "p")) return false;
  const std::string_view number = source.substr(device.size() + 1);
  return number.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::vector<std::string> loop_devices_over(const std::string& mountpoint) {
  std::vector<std::string> devices;
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator("/sys/block", code)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("loop")) continue;
    std::ifstream attribute(entry.path() / "loop" / "backing_file");  // there is none where nothing is attached
    std::string file;
    if (std::getline(attribute, file) && lies_at_or_below(file, mountpoint)) devices.push_back("/dev/" + name);
  }
  std::sort(devices.begin(), devices.end());
  return devices;
}

void sync_file_systems_on(const std::vector<std::string>& devices) {
  if (devices.empty()) return;
  std::vector<std::string> mountpoints;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    const std::optional<MountEntry> entry = parse_mount_line(line);
    const auto is_source = [&entry](const std::string& device) { return is_or_is_part_of(entry->source, device); };
    if (entry && std::any_of(devices.begin(), devices.end(), is_source)) mountpoints.push_back(entry->mountpoint);
  }
  for (const std::string& mountpoint : mountpoints) {
    const core::UniqueFd root(::open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (root.valid()) ::syncfs(root.get());
  }
}

}  // namespace fuse
