// What the verbs that work on whole disks do around what they await.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "core/engine.h"
#include "core/error.h"
#include "core/guest_disk.h"

namespace fuse {

/// Makes the calling thread the engine's strand until `work` and all that it started have ended. Rethrows its failure.
void run_to_end(core::ThreadedEngine& engine, core::Awaitable<void> work);

/// Workers worth having.
std::size_t processors();

/// The same failure, its sentence beginning with `name`.
[[noreturn]] void fail_by_name(const std::string& name, const core::Error& error);

/// Awaits `work`; where it throws a core::Error, the sentence begins with `name`, which must outlive it.
template <class Value>
core::Awaitable<Value> naming(const std::string& name, core::Awaitable<Value> work) {
  try {
    co_return co_await std::move(work);
  } catch (const core::Error& error) {
    fail_by_name(name, error);
  }
}

/// Awaits `work`, then closes `disk`, whatever became of the work. Throws the failure of the work, or else the
/// closing's.
template <class Closable>
core::Awaitable<void> and_close(Closable& disk, core::Awaitable<void> work) {
  std::exception_ptr failure;
  try {
    co_await std::move(work);
  } catch (...) {
    failure = std::current_exception();
  }
  try {
    co_await disk.close();
  } catch (...) {
    if (!failure) failure = std::current_exception();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fuse
