// `qcowfs compare`: whether two images hold the same disk, in the words and with the exit statuses of qemu-img compare.
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "fuse/comparison.h"
#include "fuse/images.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"

namespace fuse {
namespace {

enum CompareStatus { same = 0, different = 1, cannot_open = 2, cannot_find_out = 3, cannot_read = 4 };

// Every step hands the next one what it opened, and closes that behind it.
class Judgement {
 public:
  Judgement(core::Engine& engine, const CompareOptions& options) : engine_(engine), options_(options) {}

  core::Awaitable<void> run();
  CompareStatus status() const { return status_; }  ///< that of a failure, where run() has thrown
  const std::string& words() const { return words_; }

 private:
  core::Awaitable<void> with_left(Source& left);
  core::Awaitable<void> with_both(Source& left, Source& right);

  core::Engine& engine_;
  const CompareOptions& options_;
  CompareStatus status_ = cannot_open;
  std::string words_;
};

core::Awaitable<void> Judgement::run() {
  const std::unique_ptr<Source> left =
      co_await open_source(engine_, options_.left, options_.left_format, options_.named_files);
  auto compared = with_left(*left);
  co_await and_close(*left, std::move(compared));
}

core::Awaitable<void> Judgement::with_left(Source& left) {
  const std::unique_ptr<Source> right =
      co_await open_source(engine_, options_.right, options_.right_format, options_.named_files);
  status_ = cannot_read;
  auto compared = with_both(left, *right);
  co_await and_close(*right, std::move(compared));
}

core::Awaitable<void> Judgement::with_both(Source& left, Source& right) {
  if (options_.strict && left.size() != right.size()) {
    status_ = different;
    words_ = "Strict mode: Image size mismatch!\n";
    co_return;
  }
  const std::uint64_t common = std::min(left.size(), right.size());
  const std::uint64_t longer = std::max(left.size(), right.size());
  Progress progress(longer);
  const std::optional<std::uint64_t> difference = co_await first_difference(engine_, left, right, progress);
  if (longer != common && difference.value_or(longer) >= common) words_ = "Warning: Image size mismatch!\n";
  words_ +=
      difference ? "Content mismatch at offset " + std::to_string(*difference) + "!\n" : "Images are identical.\n";
  status_ = difference ? different : same;
}

int fail(const std::exception& error, int status) {
  complain(core::describe(error));
  return status;
}

}  // namespace

int run_compare(const CompareOptions& options) {
  core::log_to_stderr(core::LogLevel::silent);  // each failure is thrown and told in one line
  core::ThreadedEngine engine(processors());
  Judgement judgement(engine, options);
  try {
    run_to_end(engine, judgement.run());
  } catch (const AllocationUnknown& error) {
    return fail(error, cannot_find_out);
  } catch (const std::exception& error) {
    return fail(error, judgement.status());
  }
  const bool said = std::fputs(judgement.words().c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  if (said) return judgement.status();
  complain("writing to stdout failed");
  return cannot_read;
}

}  // namespace fuse
