// Requests whose answer takes a while: runs them, answers their errors, knows when all are done.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/async.h"
#include "core/block_file.h"
#include "core/engine.h"
#include "fuse/reply.h"
#include "fuse/statistics.h"

namespace fuse {

/// Threads    The engine's. finished() must be awaited before destruction.
class Requests {
 public:
  /// `statistics` are told how long each took, and must outlive it.
  Requests(core::Engine& engine, Statistics& statistics) : engine_(engine), statistics_(statistics) {}
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  ~Requests();

  /// Runs `step`, which answers by `reply`; an exception that leaves it becomes the answer.
  void start(RequestKind kind, std::unique_ptr<Reply> reply, core::Awaitable<void> step);

  core::Awaitable<void> finished();

 private:
  core::Awaitable<void> serve(RequestKind kind, Statistics::Clock::time_point came, std::unique_ptr<Reply> reply,
                              core::Awaitable<void> step);
  void log_failure(std::string_view name, const std::exception& error);

  core::Engine& engine_;
  Statistics& statistics_;
  std::size_t running_ = 0;
  core::WaitList idle_;
  std::string last_logged_;
};

}  // namespace fuse
