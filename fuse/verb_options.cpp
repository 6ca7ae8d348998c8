// The command lines of the verbs beside mount: one function for each.
#include "fuse/verb_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <charconv>

#include "core/nbd/nbd_export.h"
#include "fuse/nearest_word.h"

namespace fuse {
namespace {

constexpr std::uint64_t cluster_size_min = 512;
constexpr std::uint64_t cluster_size_max = 2 << 20;
constexpr int level_min = 1;
constexpr int level_max = 9;

// Of an IMAGE that is read, or made, by its path.
std::string is_here(const std::string& image) {
  if (!core::is_nbd_uri(image)) return {};
  return image + ": on a server; only mounting, check, convert (as SOURCE) and compare reach images there";
}

class VersionAsked : public std::exception {};

std::uint64_t size_or_reject(const std::string& what, const std::string& text) {
  const std::optional<std::uint64_t> bytes = parse_size(text);
  if (!bytes) throw UsageError(what + " " + text + ": expected a number of bytes, like 512m or 10g");
  return *bytes;
}

std::optional<std::uint64_t> cluster_size_or_reject(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::uint64_t bytes = size_or_reject("--cluster-size", text);
  if (!std::has_single_bit(bytes) || bytes < cluster_size_min || bytes > cluster_size_max) {
    throw UsageError("--cluster-size " + text + ": expected a power of two from 512 to 2m");
  }
  return bytes;
}

Compression compression_or_reject(const std::string& text) {
  if (text == "zlib") return Compression::zlib;
  if (text == "zstd") return Compression::zstd;
  throw UsageError("--compression " + text + ": expected zlib or zstd");
}

Preallocation preallocation_or_reject(const std::string& text) {
  if (text == "off") return Preallocation::off;
  if (text == "metadata") return Preallocation::metadata;
  if (text == "falloc") return Preallocation::falloc;
  if (text == "full") return Preallocation::full;
  throw UsageError("--preallocation " + text + ": expected off, metadata, falloc or full");
}

int level_or_reject(const std::string& option, const std::string& text) {
  int level = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, level);
  if (stop != end || error != std::errc{} || level < level_min || level > level_max) {
    throw UsageError(option + " " + text + ": expected a number from 1 to 9");
  }
  return level;
}

bool wide_window_or_reject(const std::string& text) {
  const std::optional<std::uint64_t> bytes = parse_size(text);
  if (bytes != 4 << 10 && bytes != 32 << 10) throw UsageError("--window " + text + ": expected 4k or 32k");
  return bytes == 32 << 10;
}

std::optional<ImageFormat> format_or_reject(const std::string& option, const std::string& text) {
  if (text.empty()) return std::nullopt;
  if (text == "raw") return ImageFormat::raw;
  if (text == "qcow2") return ImageFormat::qcow2;
  throw UsageError(option + " " + text + ": expected raw or qcow2");
}

constexpr const char* check_help_tail =
    R"(Looks at every table and every reference. The image must not be open for writing, with --repair not at all.
Without --repair nothing is changed. A repair loses nothing that a table leads to, and a power cut in the midst of
it leaves the image as it was, or repaired; the exit status then is that of the image afterwards.

Exit status, as of qemu-img check: 0 sound; 1 the check could not be done, or not all of it;
2 corrupt; 3 nothing worse than leaked clusters, which waste space; 63 not a qcow2 image.)";

void check_backing(const CreateOptions& options) {
  const std::string& format = options.backing_format;
  if (!format.empty() && format != "raw" && format != "qcow2") {
    throw UsageError("--backing-format " + format + ": expected raw or qcow2");
  }
  if (options.backing.empty() != format.empty()) throw UsageError("--backing and --backing-format go together");
}

// -o as mount has it, for those of its words that are about other files.
void add_named_file_option(CLI::App& app, std::vector<std::string>& lists, const char* words) {
  app.add_option("-o", lists, words)->type_name("OPTION[,...]")->allow_extra_args(false);
}

NamedFileOptions named_files_or_reject(const std::vector<std::string>& lists, std::string* snapshot = nullptr) {
  constexpr std::string_view names_snapshot = "snapshot=";
  NamedFileOptions options;
  for (const std::string& list : lists) {
    for (const std::string& word : split_options(list)) {
      if (snapshot != nullptr && word.starts_with(names_snapshot) && word.size() > names_snapshot.size()) {
        *snapshot = word.substr(names_snapshot.size());
      } else if (!apply_named_file_option(options, word)) {
        throw UsageError("-o " + word + ": only for a mount");
      }
    }
  }
  return options;
}

// What convert's options are before they are understood.
struct ConvertWords {
  std::string source_format;
  std::string target_format;
  std::string compression;
  std::string level;
  std::string window;
  std::string cluster_size;
};

void understand_target(const ConvertWords& words, ConvertOptions& options) {
  const bool to_stdout = options.target == standard_stream;
  const std::optional<ImageFormat> format = format_or_reject("-O", words.target_format);
  options.target_format = format.value_or(to_stdout ? ImageFormat::raw : ImageFormat::qcow2);
  if (options.target_format == ImageFormat::raw) {
    if (words.compression + words.level + words.window + words.cluster_size == "") return;
    throw UsageError("a raw target has neither compression nor clusters to choose");
  }
  if (to_stdout) throw UsageError("-O qcow2: a qcow2 image cannot be written to stdout, only to a file");
  if (!words.compression.empty()) options.compression = compression_or_reject(words.compression);
  if (!words.level.empty()) options.level = level_or_reject("--level", words.level);
  if (!words.window.empty()) options.wide_window = wide_window_or_reject(words.window);
  if (!words.window.empty() && options.compression == Compression::zstd) {
    throw UsageError("--window " + words.window + ": only for zlib");
  }
  options.cluster_size = cluster_size_or_reject(words.cluster_size);
}

// For the first of `words` that looks like an option and is none.
std::string advice_on_options(const CLI::App& app, const std::vector<std::string>& words) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::vector<std::string_view> names(known.begin(), known.end());
  for (const std::string& word : words) {
    const std::string name = word.substr(0, word.find('='));
    if (!name.starts_with("--") || std::find(known.begin(), known.end(), name) != known.end()) continue;
    return did_you_mean(name, names);
  }
  return {};
}

}  // namespace

std::optional<Command> parse_words(CLI::App& app, std::vector<std::string> words) {
  app.set_help_flag("-h,--help", "print this help");
  const auto ask_version = [](std::int64_t) { throw VersionAsked(); };
  app.add_flag_function("-V,--version", ask_version, "print the version")->trigger_on_parse();
  std::vector<std::string> reversed(words.rbegin(), words.rend());  // as CLI11 takes them
  try {
    app.parse(std::move(reversed));
    return std::nullopt;
  } catch (const VersionAsked&) {
    return ShowVersion{};
  } catch (const CLI::CallForHelp&) {
    return Printout{app.help()};
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what() + advice_on_options(app, words) + " (see " + app.get_name() + " --help)");
  }
}

Command parse_umount(const std::vector<std::string>& words) {
  CLI::App app("Unmounts; returns when everything is stored and the image is free again.", "qcowfs umount");
  app.footer("Exit status: 0 done; 1 failed, or written data was lost; 2 not understood.");
  UmountOptions options;
  app.add_option("MOUNTPOINT", options.mountpoint, "where the image is mounted")->required()->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;
  return options;
}

Command parse_status(const std::vector<std::string>& words) {
  CLI::App app(
      "Says what a mount has done since it began: speeds, compression, what is not stored yet, the cache, times.",
      "qcowfs status");
  app.footer("The same is in the extended attribute user.qcowfs.stats of the disk, for those who may read it.");
  StatusOptions options;
  auto* const json = app.add_flag("--json", options.json, "for programs: one object, with --watch one in each line");
  app.add_flag("--prometheus", options.prometheus, "for Prometheus: its text format")->excludes(json);
  app.add_flag("--watch", options.watch, "again each second, until the mount is gone");
  app.add_option("MOUNTPOINT", options.mountpoint, "where the image is mounted, or the disk there")
      ->required()
      ->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;
  return options;
}

Command parse_create(const std::vector<std::string>& words) {
  CLI::App app("Makes an empty qcow2 image.", "qcowfs create");
  app.footer(
      "Sizes are bytes, or have k, m, g or t behind them. What is written is compressed, preallocated or not: the\n"
      "clusters that it had before are free then.");
  CreateOptions options;
  std::string size;
  std::string cluster_size;
  std::string compression = "zlib";
  std::string preallocation = "off";
  app.add_option("--cluster-size", cluster_size, "a power of two from 512 to 2m (default: 64k)")->type_name("SIZE");
  app.add_option("--compression", compression, "zlib (the default) or zstd")->type_name("TYPE");
  app.add_option("--refcount-bits", options.refcount_bits, "1, 2, 4, 8, 16 (the default), 32 or 64")->type_name("N");
  app.add_flag("--extended-l2", options.extended_l2, "keep track of 32 subclusters of each cluster, as QEMU can");
  app.add_flag("--v2", options.version_2, "for programs that know no version 3: no zero clusters, zlib only");
  app.add_option("--preallocation", preallocation,
                 "off (the default); metadata: tables for the whole disk; falloc: also space for it; full: also zeros")
      ->type_name("HOW");
  app.add_option("--backing", options.backing, "show FILE where the image says nothing; relative to IMAGE's directory")
      ->type_name("FILE");
  app.add_option("--backing-format", options.backing_format, "of FILE: raw or qcow2")->type_name("FORMAT");
  app.add_option("IMAGE", options.image, "the file to create")->required()->type_name("")->check(is_here);
  app.add_option("SIZE", size, "of the disk; may be left out with --backing")->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;

  if (size.empty() && options.backing.empty()) throw UsageError("SIZE is required (see qcowfs create --help)");
  if (!size.empty()) options.size = size_or_reject("SIZE", size);
  check_backing(options);
  options.cluster_size = cluster_size_or_reject(cluster_size);
  options.compression = compression_or_reject(compression);
  options.preallocation = preallocation_or_reject(preallocation);
  return options;
}

Command parse_info(const std::vector<std::string>& words) {
  CLI::App app("Says what a qcow2 image is.", "qcowfs info");
  InfoOptions options;
  app.add_flag("--json", options.json, "for programs, with the names that qemu-img info uses");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("")->check(is_here);
  if (const auto asked = parse_words(app, words)) return *asked;
  return options;
}

Command parse_check(const std::vector<std::string>& words) {
  CLI::App app("Says whether a qcow2 image is sound.", "qcowfs check");
  app.footer(check_help_tail);
  CheckOptions options;
  app.add_flag("--data", options.data, "also decode every compressed cluster");
  app.add_option("--repair", options.repair, "leaks: give leaked clusters back; all: also rebuild refcounts and flags")
      ->type_name("WHAT");
  app.add_flag("--json", options.json, "for programs, with the names that qemu-img check uses");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("");
  try {
    if (const auto asked = parse_words(app, words)) return *asked;
  } catch (const UsageError& error) {
    throw UsageError(error.what(), exit_failure);  // exit_usage would say that the image is corrupt
  }
  if (!options.repair.empty() && options.repair != "leaks" && options.repair != "all") {
    throw UsageError("--repair " + options.repair + ": expected leaks or all", exit_failure);
  }
  return options;
}

Command parse_compact(const std::vector<std::string>& words) {
  CLI::App app("Makes a qcow2 image smaller in place: no second copy, and nothing is lost should it be interrupted.",
               "qcowfs compact");
  app.footer(
      "Fragments slide together, tables move down, and the end is cut off. Prints the size before and after.\n"
      "Ctrl-C ends it early and leaves the image as small as it has become.");
  CompactOptions options;
  std::string level;
  app.add_option("--recompress", level, "also compress anew, at level 1 to 9, what becomes smaller by that")
      ->type_name("N");
  app.add_option("IMAGE", options.image, "the qcow2 image, or where it is mounted")
      ->required()
      ->type_name("")
      ->check(is_here);
  if (const auto asked = parse_words(app, words)) return *asked;
  if (!level.empty()) options.recompress_level = level_or_reject("--recompress", level);
  return options;
}

Command parse_convert(const std::vector<std::string>& words) {
  CLI::App app("Copies a disk into a new compressed qcow2 image, or into a sparse raw file.", "qcowfs convert");
  app.footer(
      "SOURCE is a raw or a qcow2 image, TARGET must not exist yet. - stands for stdin or stdout, which are raw.\n"
      "Until all is copied and durable there is no TARGET: a failure or Ctrl-C leaves nothing behind.");
  ConvertOptions options;
  ConvertWords text;
  app.add_option("-f", text.source_format, "raw or qcow2 (default: what SOURCE starts with)")->type_name("FORMAT");
  app.add_option("-O", text.target_format, "qcow2 (the default) or raw")->type_name("FORMAT");
  app.add_option("--compression", text.compression, "zlib (the default) or zstd")->type_name("TYPE");
  app.add_option("--level", text.level, "of compression: 1 the fastest (the default), 9 the smallest")->type_name("N");
  app.add_option("--window", text.window, "of zlib: 32k is smaller and for QEMU, 4k (the default) for every reader")
      ->type_name("SIZE");
  app.add_option("--cluster-size", text.cluster_size, "a power of two from 512 to 2m (default: 64k)")
      ->type_name("SIZE");
  std::vector<std::string> lists;
  add_named_file_option(app, lists, "snapshot=, backing=, backing_dir=, backing_format=, data_file=, as for a mount");
  app.add_option("SOURCE", options.source, "the image to copy")->required()->type_name("");
  app.add_option("TARGET", options.target, "the file to create")->required()->type_name("")->check(is_here);
  if (const auto asked = parse_words(app, words)) return *asked;

  options.named_files = named_files_or_reject(lists, &options.snapshot);
  options.source_format = format_or_reject("-f", text.source_format);
  if (options.source == standard_stream && options.source_format == ImageFormat::qcow2) {
    throw UsageError("-f qcow2: a qcow2 image cannot be read from stdin, only from a file");
  }
  understand_target(text, options);
  return options;
}

Command parse_compare(const std::vector<std::string>& words) {
  CLI::App app("Says whether two images, raw or qcow2, hold the same disk.", "qcowfs compare");
  app.footer(
      "Where one disk is longer, the rest of it must be zeros.\n"
      "Exit status: 0 the same; 1 different; 2 an image cannot be opened, or not understood; 3 what is allocated\n"
      "cannot be found out; 4 an image cannot be read.");
  CompareOptions options;
  std::string left;
  std::string right;
  app.add_option("-f", left, "format of LEFT: raw or qcow2 (default: what it starts with)")->type_name("FORMAT");
  app.add_option("-F", right, "format of RIGHT")->type_name("FORMAT");
  app.add_flag("-s", options.strict, "strict: the sizes, and what is allocated, must be the same too");
  std::vector<std::string> lists;
  add_named_file_option(app, lists, "backing=, backing_dir=, backing_format= and data_file=, as for a mount");
  app.add_option("LEFT", options.left, "an image")->required()->type_name("");
  app.add_option("RIGHT", options.right, "an image")->required()->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;
  options.named_files = named_files_or_reject(lists);
  options.left_format = format_or_reject("-f", left);
  options.right_format = format_or_reject("-F", right);
  return options;
}

Command parse_map(const std::vector<std::string>& words) {
  CLI::App app("Says where in a qcow2 image, or in what it shows through to, the disk's bytes are.", "qcowfs map");
  MapOptions options;
  app.add_flag("--json", options.json, "for programs, with the names that qemu-img map uses");
  std::vector<std::string> lists;
  add_named_file_option(app, lists, "backing=, backing_dir= and backing_format=, as for a mount");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("")->check(is_here);
  if (const auto asked = parse_words(app, words)) return *asked;
  options.named_files = named_files_or_reject(lists);
  return options;
}

Command parse_snapshot(const std::vector<std::string>& words) {
  CLI::App app("Lists, takes, deletes and applies internal snapshots of an image that is not mounted.",
               "qcowfs snapshot");
  app.footer(
      "list IMAGE          what there is\n"
      "create IMAGE NAME   the disk as it is now\n"
      "delete IMAGE NAME   its space is free then\n"
      "apply IMAGE NAME    the disk becomes what it was then; what it is now is lost, the snapshot stays\n"
      "NAME is a name or an id. A power cut leaves the image as it was, or changed, sound either way.");
  SnapshotOptions options;
  std::string action;
  app.add_flag("--json", options.json, "list for programs, as qemu-img info does");
  app.add_option("ACTION", action, "list, create, delete or apply")->required()->type_name("");
  app.add_option("IMAGE", options.image, "the qcow2 image")->required()->type_name("")->check(is_here);
  app.add_option("NAME", options.name, "of the snapshot")->type_name("");
  if (const auto asked = parse_words(app, words)) return *asked;
  if (action == "list") {
    options.action = SnapshotAction::list;
  } else if (action == "create") {
    options.action = SnapshotAction::create;
  } else if (action == "delete") {
    options.action = SnapshotAction::remove;
  } else if (action == "apply") {
    options.action = SnapshotAction::apply;
  } else {
    throw UsageError("snapshot " + action + ": expected list, create, delete or apply");
  }
  if (options.json && action != "list") throw UsageError("--json goes with list");
  if ((action == "list") != options.name.empty()) {
    throw UsageError("snapshot " + action + (action == "list" ? ": takes no NAME" : ": NAME is required"));
  }
  return options;
}

}  // namespace fuse
