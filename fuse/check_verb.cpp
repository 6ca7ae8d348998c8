// `qcowfs check`: whether an image is sound, for people and, with the names that qemu-img uses, for programs.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include "core/blocking_file.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/nbd/nbd_export.h"
#include "fuse/standard_streams.h"
#include "fuse/verb_work.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"
#include "qcow2/check.h"

namespace fuse {
namespace {

// As of qemu-img check.
enum CheckStatus { check_clean = 0, check_failed = 1, check_corrupt = 2, check_leaks = 3, check_unsupported = 63 };

CheckStatus status_of(const qcow2::CheckResult& result) {
  if (result.check_errors != 0) return check_failed;
  if (result.corruptions != 0) return check_corrupt;
  return result.leaks != 0 ? check_leaks : check_clean;
}

std::string for_programs(const std::string& image, const qcow2::RepairResult& both) {
  const qcow2::CheckResult& result = both.after;
  boost::json::object object;
  if (both.before.leaks > result.leaks) object["leaks-fixed"] = both.before.leaks - result.leaks;
  if (both.before.corruptions > result.corruptions) {
    object["corruptions-fixed"] = both.before.corruptions - result.corruptions;
  }
  object["filename"] = image;
  object["format"] = "qcow2";
  object["check-errors"] = result.check_errors;
  object["corruptions"] = result.corruptions;
  object["leaks"] = result.leaks;
  object["image-end-offset"] = result.image_end;
  object["total-clusters"] = result.total;
  object["allocated-clusters"] = result.allocated;
  object["fragmented-clusters"] = result.fragmented;
  object["compressed-clusters"] = result.compressed;
  if (result.undecodable) object["undecodable-clusters"] = *result.undecodable;
  object["problems"] = boost::json::array(result.problems.begin(), result.problems.end());
  return boost::json::serialize(object);
}

std::string counted(std::uint64_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f %%",
                whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

std::string verdict(const qcow2::CheckResult& result) {
  std::string text;
  if (result.corruptions != 0) {
    text += counted(result.corruptions, "corruption", "corruptions") +
            ": data may be lost, and writing to the image may lose more.\n";
  }
  if (result.leaks != 0) {
    text += counted(result.leaks, "leaked cluster", "leaked clusters") + ": space is wasted, no data is in danger.\n";
  }
  if (result.check_errors != 0) {
    text += counted(result.check_errors, "cluster", "clusters") + " could not be examined: there may be more.\n";
  }
  if (text.empty()) text = "The image is sound.\n";
  return text;
}

std::string repaired(const qcow2::RepairResult& both) {
  const std::uint64_t corruptions = both.before.corruptions - std::min(both.before.corruptions, both.after.corruptions);
  const std::uint64_t leaks = both.before.leaks - std::min(both.before.leaks, both.after.leaks);
  if (corruptions == 0 && leaks == 0) return {};
  return "Repaired: " + counted(corruptions, "corruption", "corruptions") + ", " +
         counted(leaks, "leaked cluster", "leaked clusters") + ".\n\n";
}

std::string for_people(const qcow2::RepairResult& both) {
  const qcow2::CheckResult& result = both.after;
  std::string text = repaired(both);
  for (const std::string& problem : result.problems) text += problem + "\n";
  if (result.problems_left_out != 0) text += "and " + std::to_string(result.problems_left_out) + " more\n";
  if (!result.problems.empty()) text += "\n";
  text += verdict(result);
  if (result.undecodable) {
    text += *result.undecodable == 0
                ? "Every compressed cluster decodes.\n"
                : counted(*result.undecodable, "compressed cluster does", "compressed clusters do") + " not decode.\n";
  }
  text += std::to_string(result.allocated) + " of " + counted(result.total, "cluster is", "clusters are") +
          " allocated (" + percent(result.allocated, result.total) + "), of these " +
          percent(result.fragmented, result.allocated) + " fragmented, " +
          percent(result.compressed, result.allocated) + " compressed.\n";
  return text + "The image ends at byte " + std::to_string(result.image_end) + ".\n";
}

/// `image` is a path or a qcow2::OpenImage.
template <class Image>
std::optional<qcow2::RepairResult> look_at(const Image& image, const CheckOptions& options,
                                           const qcow2::CheckOptions& how) {
  if (options.repair.empty()) {
    const std::optional<qcow2::CheckResult> found = qcow2::check_image(image, how);
    if (!found) return std::nullopt;
    return qcow2::RepairResult{*found, *found};
  }
  const qcow2::Repair what = options.repair == "all" ? qcow2::Repair::all : qcow2::Repair::leaks;
  return qcow2::repair_image(image, what, how);
}

core::Awaitable<void> look_at_export(core::Engine& engine, const CheckOptions& options, const qcow2::CheckOptions& how,
                                     std::optional<qcow2::RepairResult>& result) {
  const core::Access access = options.repair.empty() ? core::Access::read_only : core::Access::read_write;
  const core::NbdExport remote = core::open_nbd_export(engine, options.image, access, request_timeout_default);
  core::BlockingFile file(engine, *remote.file);
  const qcow2::OpenImage image{file, options.image};
  auto look = [&] { return look_at(image, options, how); };
  result = co_await core::run(engine.io(), look);
}

std::optional<qcow2::RepairResult> look_wherever(const CheckOptions& options, const qcow2::CheckOptions& how) {
  if (!core::is_nbd_uri(options.image)) return look_at(options.image, options, how);
  std::optional<qcow2::RepairResult> result;
  core::ThreadedEngine engine(1);
  run_to_end(engine, look_at_export(engine, options, how, result));
  return result;
}

}  // namespace

int run_check(const CheckOptions& options) {
  try {
    const qcow2::CheckOptions how{options.data, std::thread::hardware_concurrency()};
    std::optional<Waiting> waiting(std::in_place,
                                   (options.repair.empty() ? "checking " : "repairing ") + options.image);
    const std::optional<qcow2::RepairResult> result = look_wherever(options, how);
    waiting.reset();
    if (!result) {
      complain(options.image + ": not a qcow2 image; nothing else can be checked");
      return check_unsupported;
    }
    print(options.json ? for_programs(options.image, *result) + "\n" : for_people(*result));
    return status_of(result->after);
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return check_failed;
  }
}

}  // namespace fuse
