#include "tests/support/image_session.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "core/nbd/nbd_export.h"

namespace test {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "qcowfs-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

CommandResult run_command(const std::string& command) {
  CommandResult result;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen failed");
  std::array<char, 4096> chunk;
  while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), pipe)) {
    result.output.append(chunk.data(), got);
  }
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
  return result;
}

LoopDevice::LoopDevice(const std::string& file) {
  const CommandResult made = run_command("PATH=$PATH:/usr/sbin:/sbin losetup --find --show " + file);
  if (made.status != 0) throw std::runtime_error("no loop device: " + made.output);
  path_ = made.output.substr(0, made.output.find('\n'));
}

LoopDevice::~LoopDevice() { run_command("PATH=$PATH:/usr/sbin:/sbin losetup --detach " + path_); }

ImageSession::ImageSession(const std::string& path, qcow2::ImageOptions options, std::size_t workers,
                           core::DirectIo direct)
    : engine_(workers), work_(boost::asio::make_work_guard(engine_.context())), strand_([this] { engine_.run(); }) {
  try {
    const auto access = options.read_only ? core::Access::read_only : core::Access::read_write;
    if (core::is_nbd_uri(path)) {
      file_ = core::open_nbd_export(engine_, path, access, std::chrono::seconds(60)).file;
    } else {
      file_ = std::make_unique<core::DirectFile>(engine_, path, access, direct);
    }
    options.name = path;
    disk_ = call(qcow2::open_image(engine_, *file_, options));
  } catch (...) {
    work_.reset();
    strand_.join();
    throw;
  }
}

ImageSession::~ImageSession() {
  try {
    close();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "closing the image: %s\n", error.what());
  }
  work_.reset();
  strand_.join();
}

void ImageSession::close() {
  if (closed_) return;
  closed_ = true;
  call(disk_->close());
}

std::vector<std::byte> ImageSession::read(std::uint64_t at, std::uint64_t length) {
  std::vector<std::byte> bytes(length);
  call(disk_->read(core::DiskOffset{at}, bytes));
  return bytes;
}

void ImageSession::write(std::uint64_t at, const std::vector<std::byte>& bytes) {
  const auto buffer = std::make_shared<core::Buffer>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), buffer->data());
  call(disk_->write(core::DiskOffset{at}, core::SharedBytes(buffer)));
}

}  // namespace test
