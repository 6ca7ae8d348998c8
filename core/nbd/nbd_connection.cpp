#include "core/nbd/nbd_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#include "core/alignment.h"
#include "core/error.h"

namespace core {

namespace asio = boost::asio;

namespace {

constexpr std::uint64_t request_max = 32 << 20;  // what servers take that say nothing
constexpr std::chrono::milliseconds leave_timeout{500};

// libnbd's sentence without the name of its function.
std::string last_words() {
  const char* const words = nbd_get_error();
  if (words == nullptr) return "no reason is known";
  const std::string text(words);
  const std::size_t colon = text.find(": ");
  return text.starts_with("nbd_") && colon != std::string::npos ? text.substr(colon + 2) : text;
}

bool yes(int answer) { return answer == 1; }

// Who is on the way must not forget a connection that is used only when there is much to do.
void keep_alive(int socket) {
  const int on = 1;
  const int idle_seconds = 60;
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof(idle_seconds));  // others than TCP need none
}

std::string seconds(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::ceil<std::chrono::seconds>(time).count()) + " s";
}

}  // namespace

struct NbdConnection::Request {
  Clock::time_point issued;
  int error = 0;
  bool done = false;
  WaitList answered;

  static int on_answer(void* request, int* error) {
    static_cast<Request*>(request)->finish(*error);
    return 1;  // libnbd may forget it
  }
  void finish(int with_error) {
    if (std::exchange(done, true)) return;
    error = with_error;
    answered.wake_all();
  }
};

NbdConnection::NbdConnection(asio::any_io_executor executor, const std::string& uri, std::chrono::milliseconds timeout,
                             std::chrono::milliseconds connect_timeout)
    : handle_(nbd_create()), socket_(executor), timer_(executor), timeout_(timeout) {
  if (!handle_) throw std::bad_alloc();
  nbd_set_uri_allow_local_file(handle_.get(), true);  // certificates and keys of nbds://
  connect(uri, connect_timeout);
  ask_for_facts();
  socket_.assign(nbd_aio_get_fd(handle_.get()));
  keep_alive(socket_.native_handle());
}

NbdConnection::~NbdConnection() {
  if (socket_.is_open()) socket_.release();
  take_leave();
}

void NbdConnection::connect(const std::string& uri, std::chrono::milliseconds timeout) {
  const auto fail_to_connect = [&uri] {
    const int error = nbd_get_errno();
    const ErrorCode code(error != 0 ? error : EIO, boost::system::system_category());
    fail(code, uri + ": cannot connect: " + last_words());  // which end with the system's
  };
  const Clock::time_point deadline = Clock::now() + timeout;
  // The last block of an export may be cut short; whether that can be read, its server decides.
  nbd_set_strict_mode(handle_.get(), nbd_get_strict_mode(handle_.get()) & ~unsigned{LIBNBD_STRICT_ALIGN});
  if (nbd_aio_connect_uri(handle_.get(), uri.c_str()) != 0) fail_to_connect();
  while (!yes(nbd_aio_is_ready(handle_.get()))) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) fail_errno(ETIMEDOUT, uri + ": the NBD server does not answer within " + seconds(timeout));
    if (nbd_poll(handle_.get(), static_cast<int>(left.count())) < 0) fail_to_connect();
    if (is_over()) fail_to_connect();
  }
}

void NbdConnection::ask_for_facts() {
  nbd_handle* const handle = handle_.get();
  facts_.size = static_cast<std::uint64_t>(std::max<std::int64_t>(nbd_get_size(handle), 0));
  const std::int64_t block = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
  if (block > 0 && is_power_of_two(static_cast<std::uint64_t>(block))) {
    facts_.block_min = static_cast<std::uint64_t>(block);
  }
  const std::int64_t longest = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);
  const std::uint64_t at_most = longest > 0 ? std::min(static_cast<std::uint64_t>(longest), request_max) : request_max;
  facts_.request_max = std::max(align_down(at_most, facts_.block_min), facts_.block_min);
  facts_.read_only = yes(nbd_is_read_only(handle));
  facts_.flush = yes(nbd_can_flush(handle));
  facts_.fua = yes(nbd_can_fua(handle));
  facts_.fast_zero = yes(nbd_can_fast_zero(handle));
  facts_.trim = yes(nbd_can_trim(handle));
  facts_.multi_conn = yes(nbd_can_multi_conn(handle));
}

std::string NbdConnection::export_name() const {
  char* const name = nbd_get_export_name(handle_.get());
  if (name == nullptr) return {};
  std::string copy(name);
  std::free(name);
  return copy;
}

bool NbdConnection::is_over() const {
  return yes(nbd_aio_is_dead(handle_.get())) || yes(nbd_aio_is_closed(handle_.get()));
}

void NbdConnection::take_leave() {
  if (!lost_.empty() || nbd_aio_disconnect(handle_.get(), 0) != 0) return;
  const Clock::time_point deadline = Clock::now() + leave_timeout;
  while (!is_over()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 || nbd_poll(handle_.get(), static_cast<int>(left.count())) < 0) return;
  }
}

template <class Issue>
Awaitable<void> NbdConnection::request(std::string doing, Issue issue) {
  if (!lost_.empty()) fail_errno(EIO, doing + ": " + lost_);
  Request request;
  request.issued = Clock::now();
  const auto place = waiting_.insert(waiting_.end(), &request);
  const nbd_completion_callback answer{Request::on_answer, &request, nullptr};
  if (issue(handle_.get(), answer) < 0) request.finish(std::max(nbd_get_errno(), 1));
  proceed();
  while (!request.done) co_await request.answered.wait();
  waiting_.erase(place);
  if (waiting_.empty()) proceed();
  if (request.error == 0) co_return;
  if (!lost_.empty()) fail_errno(EIO, doing + ": " + lost_);
  fail_errno(request.error, doing + ": the NBD server refuses");
}

// After libnbd has done something, and when nothing is left for it to do.
void NbdConnection::proceed() {
  if (lost_.empty() && is_over()) lose("the connection to the NBD server is lost");
  if (!lost_.empty()) return;
  if (waiting_.empty()) {
    // The engine ends when nobody waits for anything.
    socket_.cancel();
    timer_.cancel();
    waits_to_read_ = waits_to_write_ = watches_time_ = false;
    return;
  }
  wait_for_socket();
  watch_time();
}

void NbdConnection::wait_for_socket() {
  const unsigned direction = nbd_aio_get_direction(handle_.get());
  const auto wait = [this, alive = std::weak_ptr<char>(alive_)](auto what, bool& waits, short event, auto notify) {
    waits = true;
    socket_.async_wait(what, [this, alive, &waits, event, notify](const ErrorCode& error) {
      if (error == asio::error::operation_aborted || alive.expired()) return;
      waits = false;
      if (!lost_.empty()) return;
      if (is_ready(event)) {
        heard_ = event == POLLIN ? Clock::now() : heard_;
        notify(handle_.get());
      }
      proceed();
    });
  };
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && !waits_to_read_) {
    wait(asio::posix::descriptor_base::wait_read, waits_to_read_, POLLIN, nbd_aio_notify_read);
  }
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && !waits_to_write_) {
    wait(asio::posix::descriptor_base::wait_write, waits_to_write_, POLLOUT, nbd_aio_notify_write);
  }
}

// The engine's word may be old: of two waits, one cancelled too late, the second comes after all has been read. Told
// that it can read while it sends, libnbd sends nothing more until an answer has come, and the server may be waiting
// for the rest.
bool NbdConnection::is_ready(short event) const {
  const unsigned way = event == POLLIN ? LIBNBD_AIO_DIRECTION_READ : LIBNBD_AIO_DIRECTION_WRITE;
  if ((nbd_aio_get_direction(handle_.get()) & way) == 0) return false;
  pollfd socket{nbd_aio_get_fd(handle_.get()), event, 0};
  return ::poll(&socket, 1, 0) == 1;
}

const NbdConnection::Request* NbdConnection::longest_waiting() const {
  const auto found =
      std::find_if(waiting_.begin(), waiting_.end(), [](const Request* request) { return !request->done; });
  return found == waiting_.end() ? nullptr : *found;
}

// As long as answers come, those behind them are only waiting for their turn.
void NbdConnection::watch_time() {
  const Request* const request = longest_waiting();
  if (request == nullptr || std::exchange(watches_time_, true)) return;
  timer_.expires_at(std::max(request->issued, heard_) + timeout_);
  timer_.async_wait([this, alive = std::weak_ptr<char>(alive_)](const ErrorCode& error) {
    if (error == asio::error::operation_aborted || alive.expired()) return;
    watches_time_ = false;
    if (!lost_.empty()) return;
    if (is_ready(POLLIN)) heard_ = Clock::now();  // it was us who did not listen
    const Request* const longest = longest_waiting();
    if (longest != nullptr && std::max(longest->issued, heard_) + timeout_ <= Clock::now()) {
      lose("the NBD server did not answer within " + seconds(timeout_));
    }
    proceed();
  });
}

// libnbd touches no buffer after this: it is told of nothing any more. It may have closed the socket, whose number then
// must not stay with the engine.
void NbdConnection::lose(const std::string& why) {
  lost_ = why;
  ::shutdown(socket_.native_handle(), SHUT_RDWR);
  socket_.release();
  timer_.cancel();
  for (Request* request : waiting_) request->finish(EIO);
}

Awaitable<void> NbdConnection::read(FileOffset at, MutableBytes target) {
  auto issue = [at, target](nbd_handle* handle, nbd_completion_callback answer) {
    return nbd_aio_pread(handle, target.data(), target.size(), at.value, answer, 0);
  };
  return request("reading the image at byte " + std::to_string(at.value), issue);
}

Awaitable<void> NbdConnection::write(FileOffset at, Bytes source, bool fua) {
  auto issue = [at, source, fua](nbd_handle* handle, nbd_completion_callback answer) {
    return nbd_aio_pwrite(handle, source.data(), source.size(), at.value, answer, fua ? LIBNBD_CMD_FLAG_FUA : 0);
  };
  return request("writing the image at byte " + std::to_string(at.value), issue);
}

Awaitable<void> NbdConnection::flush() {
  auto issue = [](nbd_handle* handle, nbd_completion_callback answer) { return nbd_aio_flush(handle, answer, 0); };
  return request("making the image durable", issue);
}

Awaitable<void> NbdConnection::zero_fast(FileOffset at, std::uint64_t length) {
  auto issue = [at, length](nbd_handle* handle, nbd_completion_callback answer) {
    return nbd_aio_zero(handle, length, at.value, answer, LIBNBD_CMD_FLAG_FAST_ZERO);
  };
  return request("giving back space of the image at byte " + std::to_string(at.value), issue);
}

Awaitable<void> NbdConnection::trim(FileOffset at, std::uint64_t length) {
  auto issue = [at, length](nbd_handle* handle, nbd_completion_callback answer) {
    return nbd_aio_trim(handle, length, at.value, answer, 0);
  };
  return request("giving back space of the image at byte " + std::to_string(at.value), issue);
}

}  // namespace core
