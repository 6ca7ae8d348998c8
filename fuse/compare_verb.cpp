// `qcowfs compare`: whether two images hold the same disk, in the words and with the exit statuses of qemu-img compare.
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "fuse/comparison.h"
#include "fuse/images.h"
#include "fuse/named_file_policy.h"
#include "fuse/standard_streams.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"
#include "qcow2/allocation_difference.h"

namespace fuse {
namespace {

enum CompareStatus { same = 0, different = 1, cannot_open = 2, cannot_find_out = 3, cannot_read = 4 };

using qcow2::AllocationDifference;
using qcow2::ChainMap;

ChainMap map_of(const Source& source, const NamedFileOptions& named_files) {
  const qcow2::ImageFormat format =
      source.format() == ImageFormat::raw ? qcow2::ImageFormat::raw : qcow2::ImageFormat::qcow2;
  return ChainMap(source.path(), format, named_file_policy(named_files, core::DirectIo::automatic));
}

std::string in_words(const qcow2::ChainExtent& extent) {
  switch (extent.kind) {
    case qcow2::ExtentKind::unallocated: return "nothing";
    case qcow2::ExtentKind::zero: return extent.host ? "zeros that keep their place" : "zeros";
    case qcow2::ExtentKind::standard: return extent.host_is_hole ? "a reserved hole" : "data";
    case qcow2::ExtentKind::compressed: return "compressed data";
  }
  return "";
}

std::string in_words(const AllocationDifference& difference) {
  return "Strict mode: at offset " + std::to_string(difference.at) + " the first image has " +
         in_words(difference.left) + ", the second " + in_words(difference.right) + "!\n";
}

// How far two disks are allocated alike.
struct Alikeness {
  std::optional<AllocationDifference> difference;
  std::string unknown;  ///< why it could not be found out further; empty where it could
};

Alikeness alikeness_of(const Source& left, const Source& right, const NamedFileOptions& named_files) {
  Alikeness alike;
  try {
    ChainMap here = map_of(left, named_files);
    ChainMap there = map_of(right, named_files);
    alike.difference = first_allocation_difference(here, there);
  } catch (const core::Error& error) {
    alike.unknown = core::describe(error);
  }
  return alike;
}

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
  core::Awaitable<void> strictly(Source& left, Source& right);
  core::Awaitable<std::optional<std::uint64_t>> differ_before(std::uint64_t end, Source& left, Source& right);

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
  if (options_.strict) {
    co_await strictly(left, right);
    co_return;
  }
  const std::uint64_t common = std::min(left.size(), right.size());
  const std::uint64_t longer = std::max(left.size(), right.size());
  const std::optional<std::uint64_t> difference = co_await differ_before(longer, left, right);
  if (longer != common && difference.value_or(longer) >= common) words_ = "Warning: Image size mismatch!\n" + words_;
}

// What comes first on the disk is what is said, of the content before it too.
core::Awaitable<void> Judgement::strictly(Source& left, Source& right) {
  if (left.size() != right.size()) {
    status_ = different;
    words_ = "Strict mode: Image size mismatch!\n";
    co_return;
  }
  auto job = [this, &left, &right] { return alikeness_of(left, right, options_.named_files); };
  const Alikeness alike = co_await core::run(engine_.io(), job);
  const std::uint64_t end = alike.difference ? alike.difference->at : left.size();
  if (co_await differ_before(end, left, right)) co_return;
  if (!alike.unknown.empty()) throw AllocationUnknown(alike.unknown);
  if (!alike.difference) co_return;
  status_ = different;
  words_ = in_words(*alike.difference);
}

core::Awaitable<std::optional<std::uint64_t>> Judgement::differ_before(std::uint64_t end, Source& left, Source& right) {
  Progress progress(end);
  const std::optional<std::uint64_t> difference = co_await first_difference(engine_, left, right, end, progress);
  words_ = difference ? "Content mismatch at offset " + std::to_string(*difference) + "!\n" : "Images are identical.\n";
  status_ = difference ? different : same;
  co_return difference;
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
  try {
    print(judgement.words());
  } catch (const core::Error& error) {
    return fail(error, cannot_read);
  }
  return judgement.status();
}

}  // namespace fuse
