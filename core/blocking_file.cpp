#include "core/blocking_file.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>

namespace core {

namespace asio = boost::asio;

std::uint64_t BlockingFile::size() const {
  auto work = [&file = file_]() -> Awaitable<std::uint64_t> { co_return file.size(); };
  return asio::co_spawn(engine_.executor(), work, asio::use_future).get();
}

void BlockingFile::read_at(FileOffset at, MutableBytes target) const {
  asio::co_spawn(engine_.executor(), file_.read_at(at, target), asio::use_future).get();
}

void BlockingFile::write_at(FileOffset at, Bytes source) const {
  asio::co_spawn(engine_.executor(), file_.write_at(at, source), asio::use_future).get();
}

void BlockingFile::barrier() const { asio::co_spawn(engine_.executor(), file_.barrier(), asio::use_future).get(); }

bool BlockingFile::punch(FileOffset at, std::uint64_t length) const {
  return asio::co_spawn(engine_.executor(), file_.punch(at, length), asio::use_future).get();
}

}  // namespace core
