// The words of -o: what each means, which the kernel takes, which only mount(8) and systemd read.
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <string_view>

#include "fuse/nearest_word.h"
#include "fuse/options.h"

namespace fuse {
namespace {

constexpr std::uint64_t cache_size_min = 1 << 20;
constexpr unsigned workers_max = 1024;
constexpr unsigned commit_interval_max = 3600;
constexpr unsigned idle_seconds_max = 10 * 365 * 86400;
constexpr unsigned request_timeout_max = 3600;
constexpr unsigned partition_number_max = 65536;  // nobody has so many: a limit for mistypings

[[noreturn]] void reject(std::string_view name, const std::string& value, const std::string& expected) {
  throw UsageError("-o " + std::string(name) + "=" + value + ": expected " + expected);
}

template <class Number>
Number number(std::string_view name, const std::string& value, Number lowest, Number highest, int base = 10) {
  Number result = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, result, base);
  if (value.empty() || stop != end || error != std::errc{} || result < lowest || result > highest) {
    const auto text = [base](Number bound) {
      std::array<char, 32> digits;
      return std::string(digits.data(), std::to_chars(digits.data(), digits.data() + 32, bound, base).ptr);
    };
    const std::string kind = base == 8 ? "an octal number" : "a number";
    reject(name, value, kind + " from " + text(lowest) + " to " + text(highest));
  }
  return result;
}

core::DirectIo direct_io(const std::string& value) {
  if (value == "on") return core::DirectIo::on;
  if (value == "off") return core::DirectIo::off;
  if (value == "auto") return core::DirectIo::automatic;
  reject("direct", value, "on, off or auto");
}

bool wide_window(const std::string& value) {
  const std::optional<std::uint64_t> bytes = parse_size(value);
  if (bytes != 4 << 10 && bytes != 32 << 10) reject("window", value, "4k or 32k");
  return bytes == 32 << 10;
}

std::uint64_t cache_size(const std::string& value) {
  const std::optional<std::uint64_t> bytes = parse_size(value);
  if (!bytes || *bytes < cache_size_min) {
    reject("cache_size", value, "a number of bytes, 1m at least, like 96m or 1g");
  }
  return *bytes;
}

std::uint64_t disk_size(const std::string& value) {
  const std::optional<std::uint64_t> bytes = parse_size(value);
  if (!bytes) reject("create", value, "the size of the disk, like 512m or 10g");
  return *bytes;
}

bool on_or_off(std::string_view name, const std::string& value) {
  if (value != "on" && value != "off") reject(name, value, "on or off");
  return value == "on";
}

core::Cleaning cleaning(const std::string& value) {
  for (const core::Cleaning known : {core::Cleaning::off, core::Cleaning::idle, core::Cleaning::on}) {
    if (value == name_of(known)) return known;
  }
  reject("clean", value, "off, idle or on");
}

std::string image_format(const std::string& value) {
  if (value != "raw" && value != "qcow2") reject("backing_format", value, "raw or qcow2");
  return value;
}

std::string not_empty(std::string_view name, const std::string& value) {
  if (value.empty()) reject(name, value, "a name");
  return value;
}

using SetFlag = void (*)(MountOptions&);
using SetValue = void (*)(MountOptions&, const std::string&);

const std::map<std::string_view, SetFlag> flags = {
    {"ro", [](MountOptions& o) { o.read_only = true; }},
    {"rw", [](MountOptions& o) { o.read_only = false; }},
    {"debug", [](MountOptions& o) { o.debug = o.foreground = true; }},
    {"partitions", [](MountOptions& o) { o.partitions.all = true; }},
    {"writeback_cache", [](MountOptions& o) { o.writeback_cache = true; }},
    {"allow_other", [](MountOptions& o) { o.allow_other = true; }},
    {"allow_root", [](MountOptions& o) { o.allow_root = true; }},
    {"default_permissions", [](MountOptions&) {}},  // always on
    {"nonempty", [](MountOptions& o) { o.over_non_empty = true; }},
    {"auto_unmount", [](MountOptions&) {}},  // what a killed daemon leaves is taken away by the next mount
};

const std::map<std::string_view, SetValue> values = {
    {"snapshot",
     [](MountOptions& o, const std::string& v) {
       o.snapshot = not_empty("snapshot", v);
       o.read_only = true;
     }},
    {"partition",
     [](MountOptions& o, const std::string& v) {
       o.partitions.one = number<unsigned>("partition", v, 1, partition_number_max);
     }},
    {"direct", [](MountOptions& o, const std::string& v) { o.direct = direct_io(v); }},
    {"level", [](MountOptions& o, const std::string& v) { o.level = number<int>("level", v, 1, 9); }},
    {"window", [](MountOptions& o, const std::string& v) { o.wide_window = wide_window(v); }},
    {"cache_size", [](MountOptions& o, const std::string& v) { o.cache_size = cache_size(v); }},
    {"workers",
     [](MountOptions& o, const std::string& v) { o.workers = number<unsigned>("workers", v, 1, workers_max); }},
    {"commit_interval",
     [](MountOptions& o, const std::string& v) {
       o.commit_interval_seconds = number<unsigned>("commit_interval", v, 1, commit_interval_max);
     }},
    {"clean", [](MountOptions& o, const std::string& v) { o.clean = cleaning(v); }},
    {"discard", [](MountOptions& o, const std::string& v) { o.discard = on_or_off("discard", v); }},
    {"sandbox", [](MountOptions& o, const std::string& v) { o.sandbox = on_or_off("sandbox", v); }},
    {"create", [](MountOptions& o, const std::string& v) { o.create_size = disk_size(v); }},
    {"timeout", [](MountOptions& o,
                   const std::string& v) { o.idle_seconds = number<unsigned>("timeout", v, 1, idle_seconds_max); }},
    {"request_timeout",
     [](MountOptions& o, const std::string& v) {
       o.request_timeout = std::chrono::seconds(number<unsigned>("request_timeout", v, 1, request_timeout_max));
     }},
    {"notify_pipe", [](MountOptions& o, const std::string& v) { o.notify_pipe = not_empty("notify_pipe", v); }},
    {"ready_fd",
     [](MountOptions& o, const std::string& v) {
       o.ready_descriptor = number<int>("ready_fd", v, 0, std::numeric_limits<int>::max());
     }},
    {"log", [](MountOptions& o, const std::string& v) { o.log_file = not_empty("log", v); }},
    {"uid", [](MountOptions& o,
               const std::string& v) { o.uid = number<uid_t>("uid", v, 0, std::numeric_limits<uid_t>::max() - 1); }},
    {"gid", [](MountOptions& o,
               const std::string& v) { o.gid = number<gid_t>("gid", v, 0, std::numeric_limits<gid_t>::max() - 1); }},
    {"umask", [](MountOptions& o, const std::string& v) { o.umask = number<mode_t>("umask", v, 0, 0777, 8); }},
    {"fsname", [](MountOptions& o, const std::string& v) { o.fsname = not_empty("fsname", v); }},
    {"subtype", [](MountOptions& o, const std::string& v) { o.subtype = not_empty("subtype", v); }},
};

constexpr std::array<std::string_view, 7> for_the_kernel = {"nosuid",     "nodev", "noexec", "noatime",
                                                            "nodiratime", "sync",  "dirsync"};

// What an fstab line may carry that says nothing to us: words for mount(8) and systemd, and defaults spelt
// out.
constexpr std::array<std::string_view, 25> not_for_us = {
    "defaults", "auto",     "noauto",     "nofail",  "_netdev", "user",        "nouser",       "users", "nousers",
    "owner",    "noowner",  "group",      "nogroup", "suid",    "dev",         "exec",         "async", "atime",
    "diratime", "relatime", "norelatime", "silent",  "loud",    "strictatime", "nostrictatime"};

constexpr std::array<std::string_view, 4> of_named_files = {"backing", "backing_dir", "backing_format", "data_file"};

// For who mistypes one: not what others read too.
std::vector<std::string_view> known_names() {
  std::vector<std::string_view> names(of_named_files.begin(), of_named_files.end());
  for (const auto& flag : flags) names.push_back(flag.first);
  for (const auto& value : values) names.push_back(value.first);
  names.insert(names.end(), for_the_kernel.begin(), for_the_kernel.end());
  return names;
}

bool is_not_for_us(std::string_view word) {
  const auto starts_with = [word](std::string_view prefix) { return word.starts_with(prefix); };
  return std::find(not_for_us.begin(), not_for_us.end(), word) != not_for_us.end() || starts_with("x-") ||
         starts_with("X-") || starts_with("comment=") || starts_with("user=");
}

}  // namespace

std::vector<std::string> split_options(const std::string& list) {
  std::vector<std::string> words(1);
  for (std::size_t at = 0; at < list.size(); ++at) {
    if (list[at] == '\\' && at + 1 < list.size()) {
      words.back() += list[++at];
    } else if (list[at] == ',') {
      words.emplace_back();
    } else {
      words.back() += list[at];
    }
  }
  std::erase(words, std::string());
  return words;
}

std::optional<std::uint64_t> parse_size(const std::string& text) {
  std::uint64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, count);
  if (stop == text.data() || error != std::errc{}) return std::nullopt;
  if (stop == end) return count;
  if (stop + 1 != end) return std::nullopt;
  constexpr std::string_view suffixes = "kmgt";
  const std::size_t place = suffixes.find(static_cast<char>(*stop | 0x20));  // either case
  if (place == std::string_view::npos) return std::nullopt;
  const unsigned shift = 10 * static_cast<unsigned>(place + 1);
  if (count > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
  return count << shift;
}

bool apply_named_file_option(NamedFileOptions& options, const std::string& word) {
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  if (std::find(of_named_files.begin(), of_named_files.end(), name) == of_named_files.end()) return false;
  if (equals == std::string::npos) throw UsageError("-o " + name + ": needs a value: " + name + "=...");
  const std::string value = word.substr(equals + 1);
  if (name == "backing") options.allowed = on_or_off(name, value);
  if (name == "backing_dir") options.dirs.push_back(not_empty(name, value));
  if (name == "backing_format") options.format = image_format(value);
  if (name == "data_file") options.data_file = on_or_off(name, value);
  return true;
}

void apply_mount_option(MountOptions& options, const std::string& word) {
  if (apply_named_file_option(options.named_files, word)) return;
  if (const auto flag = flags.find(word); flag != flags.end()) return flag->second(options);
  if (std::find(for_the_kernel.begin(), for_the_kernel.end(), word) != for_the_kernel.end()) {
    options.mount_flags.push_back(word);
    return;
  }
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  if (const auto value = values.find(name); value != values.end()) {
    if (equals == std::string::npos) throw UsageError("-o " + name + ": needs a value: " + name + "=...");
    return value->second(options, word.substr(equals + 1));
  }
  if (flags.contains(name)) throw UsageError("-o " + word + ": " + name + " takes no value");
  if (!is_not_for_us(word))
    throw UsageError("-o " + word + ": unknown option" + did_you_mean(name, known_names()) + " (see qcowfs --help)");
}

}  // namespace fuse
