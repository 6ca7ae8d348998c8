// The command line as values. Pure: looks at nothing but its arguments.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "core/direct_file.h"
#include "core/disk_status.h"

namespace fuse {

enum ExitStatus { exit_success = 0, exit_failure = 1, exit_usage = 2 };

/// Which other files an image may lead to: the words of -o that begin with backing, and data_file.
struct NamedFileOptions {
  bool allowed = true;
  std::vector<std::string> dirs;
  std::string format;  ///< raw or qcow2; empty: only what images say
  bool data_file = false;
};

/// Which partitions are shown instead of the whole disk.
struct PartitionChoice {
  bool all = false;
  std::optional<unsigned> one;  ///< by number

  bool any() const { return all || one.has_value(); }
};

/// How long the server of an image that is on one may take for an answer.
inline constexpr std::chrono::seconds request_timeout_default{60};

struct MountOptions {
  std::string image;  ///< a path, or an NBD URI
  std::string mountpoint;
  bool foreground = false;
  bool debug = false;
  bool read_only = false;

  std::string snapshot;  ///< id or name; read-only then
  PartitionChoice partitions;
  NamedFileOptions named_files;
  core::DirectIo direct = core::DirectIo::automatic;
  std::optional<int> level;
  std::chrono::seconds request_timeout = request_timeout_default;
  bool wide_window = false;
  bool writeback_cache = false;
  std::optional<std::uint64_t> cache_size;  ///< bytes
  std::optional<unsigned> workers;          ///< as many as processors, where nothing is said
  std::optional<unsigned> commit_interval_seconds;
  std::optional<core::Cleaning> clean;  ///< idle, where nothing is said
  bool discard = true;                  ///< gives the host back what nobody uses, while mounted too
  std::optional<bool> sandbox;          ///< where nothing is said, as far as it can be had
  std::string log_file;                 ///< empty: syslog, or stderr in the foreground

  std::optional<std::uint64_t> create_size;  ///< bytes of the disk, where the image does not exist
  bool over_non_empty = false;               ///< the mount point may hold files: no warning
  std::string verb_meant;                    ///< where `image` looks like a mistyped command; empty: none
  std::optional<unsigned> idle_seconds;      ///< after which it is unmounted
  std::string pid_file;                      ///< empty: none
  std::string notify_pipe;                   ///< empty: none
  std::optional<int> ready_descriptor;

  bool allow_other = false;
  bool allow_root = false;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  mode_t umask = 0;
  std::string fsname;  ///< empty: the image's path
  std::string subtype = "qcowfs";
  std::vector<std::string> mount_flags;  ///< nodev, noatime and their like, for the kernel
};

struct UmountOptions {
  std::string mountpoint;
};

struct StatusOptions {
  std::string mountpoint;
  bool json = false;
  bool prometheus = false;
  bool watch = false;
};

enum class Compression { zlib, zstd };

/// What an empty image has of its disk.
enum class Preallocation { off, metadata, falloc, full };

struct CreateOptions {
  std::string image;
  std::optional<std::uint64_t> size;          ///< bytes; that of the backing file where nothing is said
  std::optional<std::uint64_t> cluster_size;  ///< bytes
  std::optional<unsigned> refcount_bits;
  Compression compression = Compression::zlib;
  bool version_2 = false;
  bool extended_l2 = false;
  Preallocation preallocation = Preallocation::off;
  std::string backing;         ///< as the image shall name it; empty: none
  std::string backing_format;  ///< raw or qcow2, with `backing`
};

struct InfoOptions {
  std::string image;
  bool json = false;
};

struct CheckOptions {
  std::string image;   ///< a path, or an NBD URI
  bool data = false;   ///< decode every compressed cluster
  std::string repair;  ///< leaks or all; empty: nothing is changed
  bool json = false;
};

struct CompactOptions {
  std::string image;
  std::optional<int> recompress_level;
};

enum class SnapshotAction { list, create, remove, apply };

struct SnapshotOptions {
  SnapshotAction action = SnapshotAction::list;
  std::string image;
  std::string name;   ///< of all but list; an id will do where there is such a snapshot
  bool json = false;  ///< of a list
};

enum class ImageFormat { raw, qcow2 };

/// What stands for stdin or stdout where a raw disk may be piped.
inline constexpr const char* standard_stream = "-";

struct ConvertOptions {
  std::string source;
  std::string target;
  std::optional<ImageFormat> source_format;  ///< nothing: what the source starts with decides
  NamedFileOptions named_files;              ///< of the source
  std::string snapshot;                      ///< of the source, its id or name; empty: the disk as it is now
  ImageFormat target_format = ImageFormat::qcow2;
  // Of a qcow2 target:
  Compression compression = Compression::zlib;
  std::optional<int> level;
  bool wide_window = false;
  std::optional<std::uint64_t> cluster_size;  ///< bytes
};

struct CompareOptions {
  std::string left;
  std::string right;
  std::optional<ImageFormat> left_format;
  std::optional<ImageFormat> right_format;
  NamedFileOptions named_files;  ///< of either
  bool strict = false;
};

struct MapOptions {
  std::string image;
  NamedFileOptions named_files;
  bool json = false;
};

/// What -h asks for.
struct Printout {
  std::string text;
};

/// What -V asks for.
struct ShowVersion {};

using Command =
    std::variant<MountOptions, UmountOptions, StatusOptions, CreateOptions, InfoOptions, CheckOptions, ConvertOptions,
                 CompareOptions, MapOptions, CompactOptions, SnapshotOptions, Printout, ShowVersion>;

/// One line for the person at the keyboard; ends the program with `exit_status`.
class UsageError : public std::runtime_error {
 public:
  explicit UsageError(const std::string& sentence, int exit_status = exit_usage)
      : std::runtime_error(sentence), exit_status_(exit_status) {}
  int exit_status() const { return exit_status_; }

 private:
  int exit_status_;
};

/// Throws UsageError.
Command parse_command_line(int argc, const char* const* argv);

/// "a,b=c" into "a" and "b=c"; a comma behind a backslash belongs to its option.
std::vector<std::string> split_options(const std::string& list);

/// Applies one word of -o. Throws UsageError that names it.
void apply_mount_option(MountOptions& options, const std::string& word);

/// Applies one word of -o that is about other files that an image names; false for any other. Throws UsageError that
/// names it.
bool apply_named_file_option(NamedFileOptions& options, const std::string& word);

/// Bytes, from digits with k, m, g or t behind them; nothing where that is not what `text` is.
std::optional<std::uint64_t> parse_size(const std::string& text);

}  // namespace fuse
