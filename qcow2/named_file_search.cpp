#include "qcow2/named_file_search.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "core/error.h"

namespace qcow2 {
namespace {

namespace filesystem = std::filesystem;
using core::Errc;
using core::fail;

constexpr std::size_t chain_length_max = 64;

// Where an open file really lies, whatever links led to it.
std::string real_path_of(int descriptor) {
  return filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor)).string();
}

// Both without links; `directory` itself does not count.
bool lies_below(const std::string& path, const std::string& directory) {
  const std::string prefix = directory == "/" ? directory : directory + "/";
  return path.size() > prefix.size() && path.starts_with(prefix);
}

filesystem::path resolve(const std::string& image, const std::string& name) {
  return filesystem::path(image).parent_path() / name;  // an absolute name stays what it is
}

void require_path(const std::string& image, const std::string& role, const std::string& name) {
  if (!names_protocol(name) && name.find('\0') == std::string::npos) return;
  fail(Errc::unsupported_feature,
       image + ": its " + role + ", " + name + ", is none of this machine; convert the image first");
}

}  // namespace

bool names_protocol(const std::string& name) {
  const std::size_t colon = name.find(':');
  return colon != std::string::npos && colon < name.find('/');
}

NamedFileSearch::NamedFileSearch(const std::string& image, int descriptor, NamedFilePolicy policy)
    : policy_(std::move(policy)) {
  for (std::string& directory : policy_.directories) {
    std::error_code error;
    const filesystem::path real = filesystem::canonical(directory, error);
    if (error) fail(Errc::bad_argument, "-o backing_dir=" + directory + ": " + error.message());
    directory = real.string();
  }
  require_new({image, image, "file"}, descriptor);
}

FoundBacking NamedFileSearch::find_backing_file(const std::string& image, const BackingReference& reference) {
  const std::string& name = reference.name;
  if (!policy_.backing) fail(Errc::bad_argument, image + ": it has a backing file, " + name + ", and -o backing=off");
  require_path(image, "backing file", name);
  FoundBacking found;
  found.format = format_of(image, reference);
  found.path = resolve(image, name).string();
  found.descriptor = look_at({image, found.path, "backing file"});
  return found;
}

FoundFile NamedFileSearch::find_data_file(const std::string& image, const std::string& name, core::Access access) {
  if (!policy_.data_file) {
    fail(Errc::bad_argument, image + ": its data are in an external data file, " + name +
                                 "; -o data_file=on allows that one to be " +
                                 (access == core::Access::read_only ? "read" : "read and written"));
  }
  require_path(image, "external data file", name);
  FoundFile found;
  found.path = resolve(image, name).string();
  found.descriptor = look_at({image, found.path, "external data file"});
  return found;
}

ImageFormat NamedFileSearch::format_of(const std::string& image, const BackingReference& reference) const {
  if (reference.format == "raw") return ImageFormat::raw;
  if (reference.format == "qcow2") return ImageFormat::qcow2;
  if (!reference.format.empty()) {
    fail(Errc::unsupported_feature, image + ": its backing file " + reference.name + " has the format " +
                                        reference.format + ", which is not supported; raw and qcow2 are");
  }
  if (policy_.unnamed_format) return *policy_.unnamed_format;
  fail(Errc::bad_argument, image + ": it does not say which format its backing file " + reference.name +
                               " has; -o backing_format=raw or qcow2 does");
}

std::string NamedFileSearch::say(const Named& named) { return named.image + ": its " + named.role + " " + named.path; }

// Without a look at its content, and without waiting for anybody: only then is it known what it is and where.
core::UniqueFd NamedFileSearch::look_at(const Named& named) {
  core::UniqueFd found(::open(named.path.c_str(), O_PATH | O_CLOEXEC));
  if (!found.valid()) core::fail_errno(errno, say(named));
  struct stat facts {};
  if (::fstat(found.get(), &facts) != 0) core::fail_errno(errno, named.path);
  if (!S_ISREG(facts.st_mode)) fail(Errc::bad_argument, say(named) + " is not a regular file");
  require_allowed_place(named, real_path_of(found.get()));
  require_new(named, found.get());
  return found;
}

void NamedFileSearch::require_allowed_place(const Named& named, const std::string& real_path) const {
  const std::string own = filesystem::canonical(filesystem::absolute(named.image).parent_path()).string();
  const bool allowed = lies_below(real_path, own) ||
                       std::any_of(policy_.directories.begin(), policy_.directories.end(),
                                   [&](const std::string& directory) { return lies_below(real_path, directory); });
  if (allowed) return;
  fail(Errc::bad_argument, say(named) + " lies outside the image's directory; -o backing_dir=" +
                               filesystem::path(real_path).parent_path().string() + " allows it");
}

void NamedFileSearch::require_new(const Named& named, int descriptor) {
  struct stat facts {};
  if (::fstat(descriptor, &facts) != 0) core::fail_errno(errno, named.path);
  if (!chain_.emplace(facts.st_dev, facts.st_ino).second) {
    fail(Errc::corrupt_image, say(named) + " is among those that are derived from it");
  }
  if (chain_.size() > chain_length_max) {
    fail(Errc::unsupported_feature, named.image + ": more than " + std::to_string(chain_length_max) + " files");
  }
}

}  // namespace qcow2
