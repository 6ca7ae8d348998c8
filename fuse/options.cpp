#include "fuse/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <string_view>

namespace fuse {
namespace {

constexpr std::uint64_t cluster_size_min = 512;
constexpr std::uint64_t cluster_size_max = 2 << 20;

constexpr const char* mount_help_tail =
    R"(MOUNTPOINT is a directory, which then shows IMAGE's disk as one file,
or an existing file, which then is the disk.

Options for -o:
  ro, rw                   read only, or read and write (the default)
  snapshot=NAME            the disk as it was at an internal snapshot (its name or id), read only
  backing=on|off           whether IMAGE may show through to the backing file that it names (default: on)
  backing_dir=DIR          backing files may lie in DIR or below, not only in their image's own directory or below
  backing_format=raw|qcow2 of backing files whose format no image names
  direct=on|off|auto       past the host's page cache (auto: where the file system allows it)
  level=N                  of compression: 1 is the fastest (the default), 9 the smallest
  window=4k|32k            of zlib compression: 32k is smaller and for QEMU, 4k (the default) for every reader
  cache_size=SIZE          of data held in memory, like 96m or 1g
  writeback_cache          the kernel gathers small writes: many times as fast for programs that write a few
                           kilobytes at a time; a full disk is then told by fsync and close, not by write
  workers=N                threads that compress (default: the number of processors)
  commit_interval=SECONDS  after which written data is on the disk without being asked for (default: 5)
  log=FILE                 where messages go (default: the system log; with -f the terminal)
  uid=N, gid=N, umask=M    owner, group and withheld permissions (octal) of what is shown
  allow_other, allow_root  who besides the mounting user may see it
  fsname=, subtype=        names for the list of mounts (default: IMAGE's path, qcowfs)
  nosuid, nodev, noexec, noatime, nodiratime, sync, dirsync
                           as for mount(8)
Words that an fstab line has for others (defaults, nofail, _netdev, x-..., ...) are accepted and do nothing.

Other commands; each has its own --help:
  qcowfs umount MOUNTPOINT                  unmount, and return when everything is stored and IMAGE is free
  qcowfs create [OPTIONS] IMAGE SIZE        make an empty image
  qcowfs info [--json] IMAGE                say what an image is
  qcowfs check [--data] [--json] IMAGE      say whether an image is sound

Exit status: 0 done, for a mount once it is live; 1 failed; 2 not understood.
With -f it is the status at the end: 1 if anything written could not be stored.)";

class VersionAsked : public std::exception {};

// Parses, and returns what is to be done instead of the verb where -h or -V ask for it.
std::optional<Command> parse(CLI::App& app, std::vector<std::string> words) {
  app.set_help_flag("-h,--help", "print this help");
  const auto ask_version = [](std::int64_t) { throw VersionAsked(); };
  app.add_flag_function("-V,--version", ask_version, "print the version")->trigger_on_parse();
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  try {
    app.parse(std::move(words));
    return std::nullopt;
  } catch (const VersionAsked&) {
    return ShowVersion{};
  } catch (const CLI::CallForHelp&) {
    return Printout{app.help()};
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + " (see " + app.get_name() + " --help)");
  }
}

Command parse_mount(const std::vector<std::string>& words) {
  CLI::App app("Shows a compressed qcow2 image as a raw disk that can be written.", "qcowfs");
  app.footer(mount_help_tail);
  MountOptions options;
  std::vector<std::string> lists;
  bool ignored = false;
  std::string ignored_type;
  app.add_flag("-f,--foreground", options.foreground, "stay in the foreground");
  app.add_flag("-d,--debug", options.debug, "tell what happens; implies -f");
  app.add_flag("-r,--read-only", options.read_only, "the same as -o ro");
  app.add_option("-o", lists, "options, separated by commas; may be repeated")
      ->type_name("OPTION[,...]")
      ->allow_extra_args(false);
  app.add_flag("-n,-s,-v", ignored)->group("");  // what mount(8) gives its helpers; the group "" hides them
  app.add_option("-t", ignored_type)->group("");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("");
  app.add_option("MOUNTPOINT", options.mountpoint, "where to show it")->required()->type_name("");
  if (const auto asked = parse(app, words)) return *asked;

  for (const std::string& list : lists) {
    for (const std::string& word : split_options(list)) apply_mount_option(options, word);
  }
  if (options.debug) options.foreground = true;
  if (options.allow_other && options.allow_root) {
    throw UsageError("-o allow_root: cannot be combined with allow_other");
  }
  return options;
}

Command parse_umount(const std::vector<std::string>& words) {
  CLI::App app("Unmounts; returns when everything is stored and the image is free again.", "qcowfs umount");
  app.footer("Exit status: 0 done; 1 failed, or written data was lost; 2 not understood.");
  UmountOptions options;
  app.add_option("MOUNTPOINT", options.mountpoint, "where the image is mounted")->required()->type_name("");
  if (const auto asked = parse(app, words)) return *asked;
  return options;
}

std::uint64_t size_or_reject(const std::string& what, const std::string& text) {
  const std::optional<std::uint64_t> bytes = parse_size(text);
  if (!bytes) throw UsageError(what + " " + text + ": expected a number of bytes, like 512m or 10g");
  return *bytes;
}

void check_backing(const CreateOptions& options) {
  const std::string& format = options.backing_format;
  if (!format.empty() && format != "raw" && format != "qcow2") {
    throw UsageError("--backing-format " + format + ": expected raw or qcow2");
  }
  if (options.backing.empty() != format.empty()) throw UsageError("--backing and --backing-format go together");
}

Command parse_create(const std::vector<std::string>& words) {
  CLI::App app("Makes an empty qcow2 image.", "qcowfs create");
  app.footer("Sizes are bytes, or have k, m, g or t behind them.");
  CreateOptions options;
  std::string size;
  std::string cluster_size;
  std::string compression = "zlib";
  app.add_option("--cluster-size", cluster_size, "a power of two from 512 to 2m (default: 64k)")->type_name("SIZE");
  app.add_option("--compression", compression, "zlib (the default) or zstd")->type_name("TYPE");
  app.add_option("--refcount-bits", options.refcount_bits, "1, 2, 4, 8, 16 (the default), 32 or 64")->type_name("N");
  app.add_flag("--v2", options.version_2, "for programs that know no version 3: no zero clusters, zlib only");
  app.add_option("--backing", options.backing, "show FILE where the image says nothing; relative to IMAGE's directory")
      ->type_name("FILE");
  app.add_option("--backing-format", options.backing_format, "of FILE: raw or qcow2")->type_name("FORMAT");
  app.add_option("IMAGE", options.image, "the file to create")->required()->type_name("");
  app.add_option("SIZE", size, "of the disk; may be left out with --backing")->type_name("");
  if (const auto asked = parse(app, words)) return *asked;

  if (size.empty() && options.backing.empty()) throw UsageError("SIZE is required (see qcowfs create --help)");
  if (!size.empty()) options.size = size_or_reject("SIZE", size);
  check_backing(options);
  if (!cluster_size.empty()) {
    const std::uint64_t bytes = size_or_reject("--cluster-size", cluster_size);
    if (!std::has_single_bit(bytes) || bytes < cluster_size_min || bytes > cluster_size_max) {
      throw UsageError("--cluster-size " + cluster_size + ": expected a power of two from 512 to 2m");
    }
    options.cluster_size = bytes;
  }
  if (compression != "zlib" && compression != "zstd") {
    throw UsageError("--compression " + compression + ": expected zlib or zstd");
  }
  options.compression = compression == "zstd" ? Compression::zstd : Compression::zlib;
  return options;
}

Command parse_info(const std::vector<std::string>& words) {
  CLI::App app("Says what a qcow2 image is.", "qcowfs info");
  InfoOptions options;
  app.add_flag("--json", options.json, "for programs, with the names that qemu-img info uses");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("");
  if (const auto asked = parse(app, words)) return *asked;
  return options;
}

constexpr const char* check_help_tail =
    R"(Looks at every table and every reference, and changes nothing. The image must not be open for writing.

Exit status, as of qemu-img check: 0 sound; 1 the check could not be done, or not all of it;
2 corrupt; 3 nothing worse than leaked clusters, which waste space; 63 not a qcow2 image.)";

Command parse_check(const std::vector<std::string>& words) {
  CLI::App app("Says whether a qcow2 image is sound.", "qcowfs check");
  app.footer(check_help_tail);
  CheckOptions options;
  app.add_flag("--data", options.data, "also decode every compressed cluster");
  app.add_flag("--json", options.json, "for programs, with the names that qemu-img check uses");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("");
  try {
    if (const auto asked = parse(app, words)) return *asked;
  } catch (const UsageError& error) {
    throw UsageError(error.what(), exit_failure);  // exit_usage would say that the image is corrupt
  }
  return options;
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const std::string verb = words.empty() ? "" : words.front();
  struct Row {
    std::string_view verb;
    Command (*parse)(const std::vector<std::string>& words);
  };
  constexpr Row rows[] = {{"mount", parse_mount},
                          {"umount", parse_umount},
                          {"create", parse_create},
                          {"info", parse_info},
                          {"check", parse_check}};
  for (const Row& row : rows) {
    if (verb != row.verb) continue;
    words.erase(words.begin());
    return row.parse(words);
  }
  return parse_mount(words);
}

}  // namespace fuse
