// Is an image sound? Looks at everything in it and changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/blocking_file.h"

namespace qcow2 {

struct CheckOptions {
  bool data = false;     ///< decode every compressed cluster
  unsigned threads = 1;  ///< for that
};

/// Counts of clusters where nothing else is said.
struct CheckResult {
  std::uint64_t corruptions = 0;   ///< what can lose data, or make the next write lose them
  std::uint64_t leaks = 0;         ///< counted higher than they are referred to
  std::uint64_t check_errors = 0;  ///< what could not be examined
  std::uint64_t image_end = 0;     ///< bytes to the end of the last one in use
  std::uint64_t total = 0;         ///< of the disk
  std::uint64_t allocated = 0;
  std::uint64_t fragmented = 0;
  std::uint64_t compressed = 0;
  std::optional<std::uint64_t> undecodable;  ///< where data was asked for; corruptions counts them too
  std::vector<std::string> problems;         ///< one line for each of the first of them
  std::uint64_t problems_left_out = 0;
};

enum class Repair { leaks, all };

struct RepairResult {
  CheckResult before;
  CheckResult after;  ///< the same where nothing was changed
};

/// Checks, and rebuilds every refcount and flag from what the tables lead to, beside the old ones, switched by one
/// sector: a power cut leaves the image as it was or repaired, and no data that anything leads to is lost. With
/// Repair::leaks an image that has worse is left alone. A mark of corruption goes when nothing is wrong any more.
/// Errors   As check_image(), and corrupt_image where something leads to no place in the file: then nothing changes.
std::optional<RepairResult> repair_image(const std::string& path, Repair what, const CheckOptions& options);

/// Finds what qemu-img check finds, by the same rules, in images of any kind, whether they can be mounted or not; of a
/// backing file or an external data file nothing is read. Nothing where `path` is no qcow2 image at all.
/// Memory   Two bytes for each host cluster in use, and some tens of MiB.
/// Errors   Throws core::Error where the check cannot be done: image_locked while somebody writes to the image,
///          corrupt_image or unsupported_feature where its header cannot be understood, errno where it cannot be read.
/// Threads  Any; the image stays locked for reading until it returns.
std::optional<CheckResult> check_image(const std::string& path, const CheckOptions& options);

/// An image that its owner has open, and locked where that can be. Both are borrowed.
struct OpenImage {
  core::BlockingFile& file;
  const std::string& name;  ///< for messages
};

/// The same of such an image.
/// Threads  Not the strand of the file's engine.
std::optional<CheckResult> check_image(const OpenImage& image, const CheckOptions& options);
std::optional<RepairResult> repair_image(const OpenImage& image, Repair what, const CheckOptions& options);

}  // namespace qcow2
