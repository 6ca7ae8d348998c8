// write_to_image IMAGE TEXT: writes TEXT to the beginning of the disk in a qcow2 image, compressed and durably.
#include <boost/asio/co_spawn.hpp>
#include <cstdio>
#include <cstring>

#include "core/direct_file.h"
#include "core/file_lock.h"
#include "qcow2/image.h"

namespace {

core::Awaitable<void> write(core::Engine& engine, core::BlockFile& file, core::SharedBytes text) {
  qcow2::ImageOptions options;
  const std::unique_ptr<core::GuestDisk> disk = co_await qcow2::open_image(engine, file, std::move(options));
  std::exception_ptr failure;
  try {
    co_await disk->write(core::DiskOffset{0}, text);
  } catch (const core::Error&) {
    failure = std::current_exception();
  }
  co_await disk->close();  // stores everything; must be, whatever happened
  if (failure) std::rethrow_exception(failure);
}

void write_to_image(const char* image, const char* text) {
  core::ThreadedEngine engine(2);
  core::DirectFile file(engine, image, core::Access::read_write, core::DirectIo::automatic);
  core::lock_image(file.descriptor(), core::Access::read_write, image);
  const auto buffer = std::make_shared<core::Buffer>(std::strlen(text));
  std::memcpy(buffer->data(), text, buffer->size());
  std::exception_ptr failure;
  boost::asio::co_spawn(engine.executor(), write(engine, file, core::SharedBytes(buffer)),
                        [&failure](std::exception_ptr error) { failure = error; });
  engine.run();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    write_to_image(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_to_image: %s\n", core::describe(error).c_str());
    return 1;
  }
}
