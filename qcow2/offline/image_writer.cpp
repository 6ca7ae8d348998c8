#include "qcow2/offline/image_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.h"
#include "core/file_lock.h"
#include "core/unique_fd.h"

namespace qcow2 {
namespace {

class FileWriter final : public ImageWriter {
 public:
  explicit FileWriter(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {
    if (!fd_.valid()) core::fail_errno(errno, path_);
    core::lock_image(fd_.get(), core::Access::read_write, path_);
  }

  void write(HostOffset at, core::Bytes bytes) override {
    while (!bytes.empty()) {
      const ssize_t count = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at.value));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) core::fail_errno(errno, path_ + ": cannot be written");
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      at = at + static_cast<std::uint64_t>(count);
    }
  }

  void sync() override {
    if (::fdatasync(fd_.get()) != 0) core::fail_errno(errno, path_ + ": cannot be made durable");
  }

  void punch(HostExtent extent) override {
    // What cannot be given back is only space.
    (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(extent.at.value),
                      static_cast<off_t>(extent.length));
  }

 private:
  std::string path_;
  core::UniqueFd fd_;
};

class OpenFileWriter final : public ImageWriter {
 public:
  explicit OpenFileWriter(core::BlockingFile& file) : file_(file) {}

  void write(HostOffset at, core::Bytes bytes) override { file_.write_at(at, bytes); }
  void sync() override { file_.barrier(); }
  void punch(HostExtent extent) override {
    try {
      file_.punch(extent.at, extent.length);
    } catch (const core::Error&) {  // what cannot be given back is only space
    }
  }

 private:
  core::BlockingFile& file_;
};

}  // namespace

std::unique_ptr<ImageWriter> open_image_writer(const std::string& path) { return std::make_unique<FileWriter>(path); }

std::unique_ptr<ImageWriter> writer_of(core::BlockingFile& file) { return std::make_unique<OpenFileWriter>(file); }

}  // namespace qcow2
