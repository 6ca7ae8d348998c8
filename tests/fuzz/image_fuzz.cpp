// A damaged image, opened, read, written, flushed and closed: nobody may crash, hang, or take memory without bound; who
// refuses has written nothing; and an image that a check finds sound keeps every byte and is sound again afterwards.
#include <cstring>
#include <optional>

#include "core/log.h"
#include "tests/fuzz/judgement.h"
#include "tests/fuzz/mutation.h"
#include "tests/fuzz/scratch_file.h"

namespace fuzz {
namespace {

constexpr std::uint64_t window = 256 << 10;  // bytes of the disk that are compared
constexpr int operations_max = 24;

bool is_sound(const std::optional<qcow2::CheckResult>& found) {
  return found && found->corruptions == 0 && found->check_errors == 0;
}

/// What the disk must say, byte for byte, where anybody knows.
class Model {
 public:
  explicit Model(std::uint64_t size) : bytes_(std::min(size, window)), known_(bytes_.size()) {}

  std::uint64_t size() const { return bytes_.size(); }
  void know(std::uint64_t at, core::Bytes bytes) {
    const std::size_t length = within(at, bytes.size());
    if (length == 0) return;
    std::memcpy(bytes_.data() + at, bytes.data(), length);
    std::memset(known_.data() + at, 1, length);
  }
  void doubt(std::uint64_t at, std::uint64_t length) {
    if (within(at, length) != 0) std::memset(known_.data() + at, 0, within(at, length));
  }
  void compare(std::uint64_t at, core::Bytes read) const {
    const std::size_t length = within(at, read.size());
    if (length == 0 || std::memcmp(bytes_.data() + at, read.data(), length) == 0) return;
    for (std::size_t i = 0; i < length; ++i) {
      if (known_[at + i] != 0 && bytes_[at + i] != read[i]) violated("byte " + std::to_string(at + i) + " has changed");
    }
  }

 private:
  std::size_t within(std::uint64_t at, std::uint64_t length) const {
    return at < size() ? std::min(length, size() - at) : 0;
  }

  Bytes bytes_;
  std::vector<std::uint8_t> known_;
};

class Run {
 public:
  Run(FuzzedDataProvider& data, const MutatedImage& image)
      : data_(data),
        sample_(*image.sample),
        content_(image.content),
        file_(engine_),
        sound_(is_sound(checked(scratch_file(image.content)))) {
    file_.set_content(0, image.content);
  }

  void run() {
    options_ = options_for("image");
    options_.read_only = !sound_ || data_.ConsumeBool();  // who is not sound is mounted read-only
    if (options_.read_only && has_snapshots() && data_.ConsumeBool()) options_.snapshot = "1";
    options_.clean = data_.ConsumeBool() ? qcow2::Cleaning::on : qcow2::Cleaning::idle;
    if (!open()) return expect_untouched();
    model_.emplace(disk_->size());
    learn();
    const int operations = data_.ConsumeIntegralInRange<int>(0, operations_max);
    for (int i = 0; i < operations; ++i) attempt([this] { operate(); });
    const bool closed = attempt([this] { test::run(engine_, disk_->close()); });
    if (options_.read_only) return expect_untouched();
    if (!file_.fault().empty()) violated(file_.fault());
    if (closed && sound_) expect_sound();
  }

 private:
  bool open() {
    return attempt([this] { disk_ = test::run(engine_, qcow2::open_image(engine_, file_, options_)); });
  }

  void learn() {
    for (std::uint64_t at = 0; at < model_->size(); at += disk_->cluster_size()) {
      const std::uint64_t length = std::min<std::uint64_t>(disk_->cluster_size(), model_->size() - at);
      attempt([&] { model_->know(at, read(at, length)); });
    }
  }

  Bytes read(std::uint64_t at, std::uint64_t length) {
    Bytes bytes(length);
    test::run(engine_, disk_->read(core::DiskOffset{at}, bytes));
    return bytes;
  }

  void operate() {
    const std::uint64_t size = disk_->size();
    const std::uint64_t at = data_.ConsumeIntegralInRange<std::uint64_t>(0, size);
    const std::uint64_t length = std::min<std::uint64_t>(data_.ConsumeIntegral<std::uint16_t>(), size - at);
    switch (data_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0: return engine_.advance(std::chrono::milliseconds(data_.ConsumeIntegralInRange<int>(1, 6000)));
      case 1: return zero(at, length);
      case 2: return test::run(engine_, disk_->flush());
      case 3: return look(at);
      case 4: return resize(data_.ConsumeIntegralInRange<std::uint64_t>(0, 2 * window));
      case 5: return test::run(engine_, disk_->compact({}));
      case 6: return compare(at, length);
      default: return write(at, length);
    }
  }

  void compare(std::uint64_t at, std::uint64_t length) {
    const Bytes bytes = read(at, length);
    if (sound_ && !has_external_data()) model_->compare(at, bytes);
  }

  bool has_snapshots() const { return sample_.snapshot_table != 0; }

  // Nobody counts the clusters of such a file: two of the disk may be the same.
  bool has_external_data() const {
    constexpr std::size_t lowest_byte = qcow2::header_field::incompatible_features + 7;
    constexpr auto mark = static_cast<std::byte>(qcow2::incompatible::external_data_file);
    return content_.size() > lowest_byte && (content_[lowest_byte] & mark) != std::byte{0};
  }

  void write(std::uint64_t at, std::uint64_t length) {
    static const Bytes compressible = test::noise(2 << 16, 1);
    static const Bytes incompressible = test::random_bytes(2 << 16, 1);
    const Bytes& source = data_.ConsumeBool() ? compressible : incompressible;
    const core::Bytes bytes = core::Bytes(source).subspan(data_.ConsumeIntegral<std::uint16_t>(), length);
    model_->doubt(at, length);
    const auto buffer = std::make_shared<core::Buffer>(length);
    if (length != 0) std::memcpy(buffer->data(), bytes.data(), length);
    test::run(engine_, disk_->write(core::DiskOffset{at}, core::SharedBytes(buffer)));
    model_->know(at, bytes);
  }

  void zero(std::uint64_t at, std::uint64_t length) {
    model_->doubt(at, length);
    test::run(engine_, disk_->zero(core::DiskOffset{at}, length));
    model_->know(at, Bytes(length));
  }

  void resize(std::uint64_t size) {
    model_->doubt(std::min(size, disk_->size()), window);
    test::run(engine_, disk_->resize(size));
  }

  void look(std::uint64_t at) {
    const std::uint64_t data = test::run(engine_, disk_->next_data(core::DiskOffset{at}));
    const std::uint64_t hole = test::run(engine_, disk_->next_hole(core::DiskOffset{at}));
    if (data < at || hole < at || data > disk_->size() || hole > disk_->size()) violated("a hole outside the disk");
  }

  void expect_untouched() const {
    if (file_.size() != content_.size() || !file_.content_is(0, content_)) violated("the image was changed");
  }

  void expect_sound() {
    const std::optional<qcow2::CheckResult> found = checked(scratch_file(file_.content(0, file_.size())));
    if (!found) violated("the image cannot be checked any more");
    if (!is_sound(found)) violated("corrupt: " + (found->problems.empty() ? "?" : found->problems.front()));
  }

  FuzzedDataProvider& data_;
  const SampleImage& sample_;
  const Bytes& content_;
  test::TestEngine engine_;
  test::ScriptedFile file_;
  bool sound_;
  qcow2::ImageOptions options_;
  std::unique_ptr<core::GuestDisk> disk_;
  std::optional<Model> model_;
};

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const bool quiet = [] {
    core::log_to_stderr(core::LogLevel::silent);
    return true;
  }();
  static_cast<void>(quiet);
  FuzzedDataProvider data(bytes, size);
  const fuzz::MutatedImage image = fuzz::mutate(data);
  fuzz::Run(data, image).run();
  return 0;
}
