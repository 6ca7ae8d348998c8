// A damaged image under everything that works on images that are not mounted: it is checked, described, mapped and
// repaired. Who only looks writes nothing, and what a repair calls sound is found sound by the next check.
#include "core/log.h"
#include "qcow2/info.h"
#include "qcow2/offline/image_map.h"
#include "tests/fuzz/judgement.h"
#include "tests/fuzz/mutation.h"
#include "tests/fuzz/scratch_file.h"

namespace fuzz {
namespace {

// Extents follow each other from the first byte of the disk to its last.
class Map final : public qcow2::MapVisitor {
 public:
  void extent(const qcow2::MapExtent& extent) override {
    require(extent.start == end_ && extent.length != 0, "the map has a gap");
    end_ += extent.length;
  }
  void used(qcow2::HostUse, qcow2::HostExtent where) override { require(where.length != 0, "nothing is used"); }
  std::uint64_t end() const { return end_; }

 private:
  std::uint64_t end_ = 0;
};

void map(const std::string& path) {
  const qcow2::ImageMap image(path);
  Map seen;
  image.walk(seen);
  require(seen.end() == image.disk_size(), "the map does not show all of the disk");
}

void look(const Bytes& content) {
  const std::string path = scratch_file(content);
  qcow2::CheckOptions with_data;
  with_data.data = true;
  attempt([&] { qcow2::check_image(path, with_data); });
  attempt([&] { qcow2::read_info(path); });
  attempt([&] { map(path); });
  require(test::read_file(path) == content, "an image that was only looked at has changed");
}

void repair(const Bytes& content, qcow2::Repair what) {
  const std::string path = scratch_file(content);
  attempt([&] {
    const auto repaired = qcow2::repair_image(path, what, {});
    if (!repaired) return;
    const auto found = qcow2::check_image(path, {});
    require(found.has_value(), "a repaired image is none any more");
    require(found->corruptions == repaired->after.corruptions, "a repair counts other errors than a check");
    require(found->leaks == repaired->after.leaks, "a repair counts other leaks than a check");
    if (repaired->before.corruptions == 0) require(found->corruptions == 0, "a repair of leaks has done damage");
  });
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const bool silent = (core::log_to_stderr(core::LogLevel::silent), true);
  static_cast<void>(silent);
  FuzzedDataProvider data(bytes, size);
  const fuzz::MutatedImage image = fuzz::mutate(data);
  fuzz::look(image.content);
  fuzz::repair(image.content, qcow2::Repair::leaks);
  fuzz::repair(image.content, qcow2::Repair::all);
  return 0;
}
