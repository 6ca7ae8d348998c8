#include "fuse/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>

#include "fuse/nearest_word.h"
#include "fuse/verb_options.h"

namespace fuse {
namespace {

// /sbin/mount.qcowfs, which mount(8) runs: no verbs, and its -f says that nothing is to be mounted.
bool is_mount_helper(std::string_view program) { return program.substr(program.rfind('/') + 1).starts_with("mount."); }

constexpr const char* mount_help_tail =
    R"(IMAGE is a file, a block device, or an export of an NBD server: nbd://HOST[:PORT]/EXPORT, nbds:// for TLS,
nbd+unix:///EXPORT?socket=PATH. MOUNTPOINT is a directory, which then shows IMAGE's disk as one file,
or an existing file, which then is the disk.

Options for -o:
  ro, rw                   read only, or read and write (the default)
  snapshot=NAME            the disk as it was at an internal snapshot (its name or id), read only
  partitions               the disk's partitions as files p1, p2, ... instead of the whole disk
  partition=N              that one only
  backing=on|off           whether IMAGE may show through to the backing file that it names (default: on)
  backing_dir=DIR          those files may lie in DIR or below, not only in their image's own directory or below
  backing_format=raw|qcow2 of backing files whose format no image names
  data_file=on|off         whether IMAGE may keep its data in the other file that it names (default: off)
  direct=on|off|auto       past the host's page cache (auto: where the file system allows it)
  level=N                  of compression: 1 is the fastest (the default), 9 the smallest
  window=4k|32k            of zlib compression: 32k is smaller and for QEMU, 4k (the default) for every reader
  cache_size=SIZE          of data held in memory, like 96m or 1g
  writeback_cache          the kernel gathers small writes: many times as fast for programs that write a few
                           kilobytes at a time; a full disk is then told by fsync and close, not by write
  workers=N                threads that compress (default: the number of processors)
  commit_interval=SECONDS  after which written data is on the disk without being asked for (default: 5)
  clean=off|idle|on        empties sparse parts of IMAGE in the background: while nobody writes (the default), or always
  discard=on|off           gives the host back what the image no longer uses, while mounted (default: on)
  sandbox=on|off           the daemon gives up what serving does not need (the default, as far as the kernel has it);
                           on: refuses to mount where system calls cannot be filtered
  create=SIZE              make IMAGE, with an empty disk of SIZE, where it does not exist yet
  request_timeout=SECONDS  for an answer of IMAGE's server, which is given up then (default: 60)
  timeout=SECONDS          unmount when nothing has had the disk open or asked for anything for that long
  notify_pipe=PATH         write one line to the FIFO at PATH: "ready", or "failed" and why
  ready_fd=N               the same to the inherited descriptor N, which then is closed
  nonempty                 no warning where MOUNTPOINT is a directory with files in it
  log=FILE                 where messages go (default: the system log; with -f the terminal)
  uid=N, gid=N, umask=M    owner, group and withheld permissions (octal) of what is shown
  allow_other, allow_root  who besides the mounting user may see it
  fsname=, subtype=        names for the list of mounts (default: IMAGE's path, qcowfs)
  nosuid, nodev, noexec, noatime, nodiratime, sync, dirsync
                           as for mount(8)
Words that an fstab line has for others (defaults, nofail, _netdev, x-..., ...) are accepted and do nothing, and so is
auto_unmount: what a killed daemon leaves behind is taken away by the next mount at the same point, or by qcowfs umount.

Other commands; each has its own --help:
  qcowfs umount MOUNTPOINT                  unmount, and return when everything is stored and IMAGE is free
  qcowfs status [OPTIONS] MOUNTPOINT        say what a mount has done, and how fast
  qcowfs create [OPTIONS] IMAGE SIZE        make an empty image
  qcowfs info [--json] IMAGE                say what an image is
  qcowfs check [--data] [--json] IMAGE      say whether an image is sound
  qcowfs convert [OPTIONS] SOURCE TARGET    copy a disk into a new compressed image, or into a raw file
  qcowfs compare [OPTIONS] IMAGE IMAGE      say whether two images hold the same disk
  qcowfs map [--json] IMAGE                 say where in an image the disk's bytes are
  qcowfs compact [--recompress N] IMAGE     make an image smaller in place, mounted or not
  qcowfs snapshot ACTION IMAGE [NAME]       list, create, delete or apply internal snapshots

Exit status: 0 done, for a mount once it is live; 1 failed; 2 not understood.
With -f it is the status at the end: 1 if anything written could not be stored.)";

void check_partitions(const MountOptions& options) {
  if (!options.partitions.any()) return;
  const std::string word = options.partitions.all ? "partitions" : "partition";
  if (options.partitions.all && options.partitions.one) throw UsageError("-o partitions: cannot go with partition=N");
  if (options.writeback_cache && !options.read_only) {
    throw UsageError("-o " + word + ": cannot go with writeback_cache: the kernel would take writes behind their ends");
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
  app.add_option("-P,--pidfile", options.pid_file, "holds the daemon's process id as long as it lives")
      ->type_name("FILE");
  app.add_option("-o", lists, "options, separated by commas; may be repeated")
      ->type_name("OPTION[,...]")
      ->allow_extra_args(false);
  app.add_flag("-n,-s,-v", ignored)->group("");  // what mount(8) gives its helpers; the group "" hides them
  app.add_option("-t", ignored_type)->group("");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("");
  app.add_option("MOUNTPOINT", options.mountpoint, "where to show it")->required()->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;

  for (const std::string& list : lists) {
    for (const std::string& word : split_options(list)) apply_mount_option(options, word);
  }
  if (options.debug) options.foreground = true;
  if (options.allow_other && options.allow_root) {
    throw UsageError("-o allow_root: cannot be combined with allow_other");
  }
  if (options.create_size && options.read_only) {
    throw UsageError(
        "-o create: cannot be combined with a read-only mount, as nothing could be written to the new disk");
  }
  check_partitions(options);
  return options;
}

// Whoever writes `qcowfs chek disk.qcow2` names an image "chek", as far as we can know here.
Command parse_mount_or_mistyped_verb(const std::vector<std::string>& words, const std::string& meant) {
  try {
    Command command = parse_mount(words);
    if (auto* const options = std::get_if<MountOptions>(&command)) options->verb_meant = meant;
    return command;
  } catch (const UsageError& error) {
    if (meant.empty()) throw;
    throw UsageError(error.what() + ("; did you mean qcowfs " + meant + "?"), error.exit_status());
  }
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  if (argc == 0) return parse_mount({});
  std::vector<std::string> words(argv + 1, argv + argc);
  if (is_mount_helper(argv[0])) {
    const bool pretend = std::erase(words, "-f") != 0;
    const Command command = parse_mount(words);
    return pretend ? Printout{} : command;
  }
  const std::string verb = words.empty() ? "" : words.front();
  struct Row {
    std::string_view verb;
    Command (*parse)(const std::vector<std::string>& words);
  };
  constexpr Row rows[] = {{"mount", parse_mount},     {"umount", parse_umount},    {"status", parse_status},
                          {"create", parse_create},   {"info", parse_info},        {"check", parse_check},
                          {"convert", parse_convert}, {"compare", parse_compare},  {"map", parse_map},
                          {"compact", parse_compact}, {"snapshot", parse_snapshot}};
  for (const Row& row : rows) {
    if (verb != row.verb) continue;
    words.erase(words.begin());
    return row.parse(words);
  }
  std::vector<std::string_view> verbs;
  for (const Row& row : rows) verbs.push_back(row.verb);
  return parse_mount_or_mistyped_verb(words, nearest_word(verb, verbs));
}

}  // namespace fuse
