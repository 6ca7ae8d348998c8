#include "fuse/soundness.h"

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "qcow2/check.h"

namespace fuse {
namespace {

std::string say_damaged(const std::string& image, const qcow2::CheckResult& found) {
  const std::string what = found.problems.empty() ? "metadata that cannot be read" : found.problems.front();
  return image + ": damaged: " + what + "; qcowfs check --repair all " + image + " mends what can be mended";
}

bool damaged(const qcow2::CheckResult& found) { return found.corruptions != 0 || found.check_errors != 0; }

// Where that cannot be done, as on a full disk, they stay: they are no reason not to write.
template <class Image>
void give_leaks_back(Image& where, const std::string& image, std::uint64_t leaks) {
  try {
    qcow2::repair_image(where, qcow2::Repair::leaks, {});
    spdlog::info("{}: {} leaked clusters are given back", image, leaks);
  } catch (const core::Error& error) {
    if (error.code() == core::Errc::image_locked) throw;
    spdlog::warn("{}: {} leaked clusters stay: {}", image, leaks, core::describe(error));
  }
}

template <class Image>
std::string look_at(Image& where, const std::string& image) {
  const qcow2::CheckOptions metadata;
  const auto found = qcow2::check_image(where, metadata);
  if (!found) return {};
  if (damaged(*found)) return say_damaged(image, *found);
  if (found->leaks != 0) give_leaks_back(where, image, found->leaks);
  return {};
}

template <class Image>
std::string why_not(Image& where, const std::string& image) {
  try {
    return look_at(where, image);
  } catch (const core::Error& error) {
    if (error.code() == core::Errc::image_locked) throw;
    return core::describe(error);
  }
}

}  // namespace

std::string why_not_writable(const std::string& image) { return why_not(image, image); }

std::string why_not_writable(core::BlockingFile& file, const std::string& name) {
  const qcow2::OpenImage open{file, name};
  return why_not(open, name);
}

}  // namespace fuse
