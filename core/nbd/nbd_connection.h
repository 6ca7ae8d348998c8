// One connection to an NBD server, through libnbd: requests go out and answers come in as the engine's descriptor says.
#pragma once

#include <libnbd.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "core/async.h"
#include "core/block_file.h"
#include "core/bytes.h"

namespace core {

/// What a server says of an export. Units are bytes.
struct NbdFacts {
  std::uint64_t size = 0;
  std::uint64_t block_min = 1;    ///< what offsets and lengths are multiples of: a power of two
  std::uint64_t request_max = 0;  ///< how long a read or a write may be: a multiple of block_min
  bool read_only = false;
  bool flush = false;
  bool fua = false;
  bool fast_zero = false;
  bool trim = false;
  bool multi_conn = false;
};

/// Connected as long as lost() is empty; what is lost is never connected again, for what the server had not made
/// durable may be gone.
/// Units      Offsets and lengths are multiples of block_min within the export, those of reads and writes request_max
///            at most.
/// Ownership  Buffers are borrowed until the awaitable completes.
/// Errors     Throws core::Error with the server's errno, and EIO where the connection is lost. A request that is not
///            answered takes the connection with it, for nobody could say what became of it: when it has waited for as
///            long as the timeout, and for as long nothing else has come either.
/// Threads    The engine's strand; every wait but the constructor's and the destructor's is a suspension.
class NbdConnection {
 public:
  /// Connects. Throws core::Error with one line that begins with `uri`.
  NbdConnection(boost::asio::any_io_executor executor, const std::string& uri, std::chrono::milliseconds timeout,
                std::chrono::milliseconds connect_timeout);
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;
  /// Takes leave of the server. No request may be under way, unless the engine is at its end.
  ~NbdConnection();

  const NbdFacts& facts() const { return facts_; }
  std::string export_name() const;
  const std::string& lost() const { return lost_; }  ///< why; empty: it is not
  std::size_t in_flight() const { return waiting_.size(); }

  Awaitable<void> read(FileOffset at, MutableBytes target);
  /// Durable when it completes with `fua`, which the server must know.
  Awaitable<void> write(FileOffset at, Bytes source, bool fua);
  Awaitable<void> flush();
  /// Makes it read as zeros, without space where the server can; throws EOPNOTSUPP where that takes as long as writing
  /// would. The server must know fast zeroing.
  Awaitable<void> zero_fast(FileOffset at, std::uint64_t length);
  /// Advice that nobody needs these bytes any more.
  Awaitable<void> trim(FileOffset at, std::uint64_t length);

 private:
  using Clock = std::chrono::steady_clock;
  struct Close {
    void operator()(nbd_handle* handle) const { nbd_close(handle); }
  };
  struct Request;

  void connect(const std::string& uri, std::chrono::milliseconds timeout);
  void ask_for_facts();
  bool is_over() const;  ///< libnbd will do nothing more with it
  void take_leave();
  template <class Issue>
  Awaitable<void> request(std::string doing, Issue issue);
  void proceed();
  void wait_for_socket();
  bool is_ready(short event) const;
  void watch_time();
  const Request* longest_waiting() const;
  void lose(const std::string& why);

  std::unique_ptr<nbd_handle, Close> handle_;
  boost::asio::posix::stream_descriptor socket_;  ///< libnbd's own; only waited for
  boost::asio::steady_timer timer_;
  std::chrono::milliseconds timeout_;
  NbdFacts facts_;
  std::string lost_;
  std::list<Request*> waiting_;  ///< for an answer, the longest first; and those whose coroutine has not resumed yet
  Clock::time_point heard_;      ///< when something came from the server
  bool waits_to_read_ = false;
  bool waits_to_write_ = false;
  bool watches_time_ = false;
  std::shared_ptr<char> alive_ = std::make_shared<char>();  ///< handlers may come home after this has gone
};

}  // namespace core
