// A damaged image whose snapshots are taken, deleted and applied: what succeeds leaves a sound image, and what fails
// the image with the damage that it had.
#include "core/log.h"
#include "qcow2/offline/snapshot_changes.h"
#include "tests/fuzz/judgement.h"
#include "tests/fuzz/mutation.h"
#include "tests/fuzz/scratch_file.h"

namespace fuzz {
namespace {

constexpr int changes_max = 2;  // a table of sixty thousand snapshots takes the sanitizers seconds each time

using Change = void (*)(const qcow2::ReadOnlyFile& file, qcow2::ImageWriter& writer, const std::string& name);

constexpr Change changes[] = {
    [](const qcow2::ReadOnlyFile& file, qcow2::ImageWriter& writer, const std::string& name) {
      qcow2::create_snapshot(file, writer, name, {});
    },
    qcow2::delete_snapshot,
    qcow2::apply_snapshot,
};

bool succeeds(const std::string& path, Change change, const std::string& name) {
  return attempt([&] {
    const std::unique_ptr<qcow2::ImageWriter> writer = qcow2::open_image_writer(path);
    const qcow2::ReadOnlyFile file(path);
    change(file, *writer, name);
  });
}

void run(FuzzedDataProvider& data, const std::string& path) {
  const char* const names[] = {"before", "1", "another", ""};
  std::optional<qcow2::CheckResult> before = checked(path);
  const int count = data.ConsumeIntegralInRange<int>(1, changes_max);
  for (int i = 0; i < count; ++i) {
    const Change change = data.PickValueInArray(changes);
    const bool done = succeeds(path, change, data.PickValueInArray(names));
    const std::optional<qcow2::CheckResult> after = checked(path);
    require(before.has_value() == after.has_value(), "a change decides whether an image can be checked");
    if (!after) return;
    if (done) require(after->corruptions == 0, "a change has left corruption");
    if (!done) require(after->corruptions == before->corruptions, "a change that failed has left other damage");
    before = after;
  }
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const bool silent = (core::log_to_stderr(core::LogLevel::silent), true);
  static_cast<void>(silent);
  FuzzedDataProvider data(bytes, size);
  const fuzz::MutatedImage image = fuzz::mutate(data);
  fuzz::run(data, fuzz::scratch_file(image.content));
  return 0;
}
