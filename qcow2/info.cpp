// Reads an image's header for people who want to know what they have, whether it can be served or not.
#include "qcow2/info.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/alignment.h"
#include "core/error.h"
#include "core/unique_fd.h"
#include "qcow2/format/header.h"

namespace qcow2 {
namespace {

using core::Errc;
using core::fail;
using core::fail_errno;

class ReadOnlyFile {
 public:
  /// Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
  explicit ReadOnlyFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {
    if (!fd_.valid()) fail_errno(errno, path_);
    if (::fstat(fd_.get(), &facts_) != 0) fail_errno(errno, path_);
    if (!S_ISREG(facts_.st_mode) && !S_ISBLK(facts_.st_mode)) {
      fail(Errc::bad_argument, path_ + ": neither a file nor a block device");
    }
  }

  std::uint64_t size() const {
    const off_t end = ::lseek(fd_.get(), 0, SEEK_END);  // stat knows no size of a block device
    if (end < 0) fail_errno(errno, path_);
    return static_cast<std::uint64_t>(end);
  }
  std::uint64_t allocated_size() const { return static_cast<std::uint64_t>(facts_.st_blocks) * 512; }

  /// What there is of [at, at + length).
  std::vector<std::byte> read(HostOffset at, std::size_t length) const {
    std::vector<std::byte> bytes(length);
    std::size_t got = 0;
    while (got < length) {
      const ssize_t count = ::pread(fd_.get(), bytes.data() + got, length - got, static_cast<off_t>(at.value + got));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_errno(errno, path_);
      if (count == 0) break;
      got += static_cast<std::size_t>(count);
    }
    bytes.resize(got);
    return bytes;
  }

 private:
  std::string path_;
  core::UniqueFd fd_;
  struct stat facts_ {};
};

std::string read_backing_file_name(const ReadOnlyFile& file, const Header& header, const std::string& path) {
  if (header.backing_file_offset == 0) return {};
  const std::vector<std::byte> name = file.read(HostOffset{header.backing_file_offset}, header.backing_file_size);
  if (name.size() < header.backing_file_size) {
    fail(Errc::corrupt_image, path + ": the file ends within the backing file's name");
  }
  return {reinterpret_cast<const char*>(name.data()), name.size()};
}

}  // namespace

ImageInfo read_info(const std::string& path) {
  const ReadOnlyFile file(path);
  const Header header = parse_header(file.read(HostOffset{0}, header_bytes_switched), path);
  const auto has = [&header](std::uint64_t feature) { return (header.incompatible_features & feature) != 0; };

  ImageInfo info;
  info.path = path;
  info.version = header.version;
  info.virtual_size = core::align_down(header.size, sector_size);  // as it is served
  info.file_size = file.size();
  info.allocated_size = file.allocated_size();
  info.cluster_size = header.geometry.cluster_size();
  info.refcount_bits = header.geometry.refcount_bits();
  info.compression = header.compression;
  info.backing_file = read_backing_file_name(file, header, path);
  info.snapshots = header.snapshots;
  info.dirty = has(incompatible::dirty);
  info.corrupt = has(incompatible::corrupt);
  info.lazy_refcounts = (header.compatible_features & compatible::lazy_refcounts) != 0;
  info.extended_l2 = has(incompatible::extended_l2);
  info.external_data_file = has(incompatible::external_data_file);
  info.encrypted = header.crypt_method != 0;
  return info;
}

}  // namespace qcow2
