#include "qcow2/check.h"

#include <cerrno>
#include <limits>

#include "core/big_endian.h"
#include "core/error.h"
#include "qcow2/offline/fragment_check.h"
#include "qcow2/offline/image_writer.h"
#include "qcow2/offline/metadata_switch.h"
#include "qcow2/offline/reference_walk.h"

namespace qcow2 {
namespace {

static_assert(FragmentCheck::kept_max >= Findings::sentences_max);

constexpr std::uint64_t host_clusters_max = std::numeric_limits<std::int32_t>::max();  // as QEMU

bool is_qcow2(const ReadOnlyFile& file) {
  const std::vector<std::byte> magic = file.read(HostOffset{header_field::magic}, 4);
  return magic.size() == 4 && core::load_big_endian<std::uint32_t>(magic, 0) == header_magic;
}

std::uint64_t checked_host_clusters(const ReadOnlyFile& file, const Geometry& geometry) {
  const std::uint64_t clusters = geometry.host_clusters(file.size());
  if (clusters > host_clusters_max) {
    core::fail_errno(EFBIG, file.path() + ": the file has too many clusters to check");
  }
  return clusters;
}

/// One check from beginning to end.
class Check {
 public:
  Check(const ReadOnlyFile& file, const CheckOptions& options)
      : file_(file),
        options_(options),
        layout_(read_layout(file)),
        snapshots_(read_snapshot_table(file, layout_.header)),
        stored_(file, layout_.header),
        counts_(checked_host_clusters(file, layout_.geometry()), layout_.geometry().refcount_max()),
        references_(layout_.geometry(), file.size(), counts_, findings_),
        tables_(file, layout_, stored_, references_, findings_) {}

  CheckResult run() {
    if (options_.data) {
      decoding_.emplace(file_, layout_.header, options_.threads);
      tables_.send_fragments_to([this](std::vector<Fragment> fragments) { decoding_->submit(std::move(fragments)); });
    }
    count_content(file_, layout_, snapshots_, tables_, references_, findings_);
    count_refcount_structure(layout_, stored_, references_, findings_);
    const HostOffset end = compare_refcounts(layout_, stored_, counts_, findings_);
    if (decoding_) take_over_undecodable();
    return result(end);
  }

 private:
  void take_over_undecodable() {
    decoding_->finish();
    const std::vector<Fragment>& known = decoding_->undecodable_fragments();
    for (std::uint64_t i = 0; i < decoding_->undecodable(); ++i) {
      // Those that it did not keep are beyond the last sentence that the findings keep.
      findings_.corruption([&] { return i < known.size() ? say_undecodable(known[i]) : std::string(); });
    }
  }

  std::string say_undecodable(const Fragment& fragment) const {
    std::string sentence = "guest byte " + in_hex(fragment.guest.value);
    if (fragment.owner != 0) sentence += " of snapshot " + in_quotes(snapshots_.snapshots[fragment.owner - 1].name);
    return sentence + ": its compressed data at host byte " + in_hex(fragment.extent.at.value) + " does not decode";
  }

  CheckResult result(HostOffset end) const {
    CheckResult result;
    result.corruptions = findings_.corruptions();
    result.leaks = findings_.leaks();
    result.check_errors = findings_.check_errors();
    result.image_end = end.value;
    result.total = layout_.geometry().guest_clusters(layout_.disk_size());
    result.allocated = tables_.use().allocated;
    result.fragmented = tables_.use().fragmented;
    result.compressed = tables_.use().compressed;
    if (decoding_) result.undecodable = decoding_->undecodable();
    result.problems = findings_.sentences();
    result.problems_left_out = findings_.sentences_left_out();
    return result;
  }

  const ReadOnlyFile& file_;
  const CheckOptions& options_;
  Findings findings_;
  ImageLayout layout_;
  SnapshotTable snapshots_;
  StoredRefcounts stored_;
  ReferenceCounts counts_;
  HostReferences references_;
  TableWalk tables_;
  std::optional<FragmentCheck> decoding_;
};

void clear_corrupt_mark(const ReadOnlyFile& file, ImageWriter& writer) {
  std::vector<std::byte> sector = file.read_or_zeros(HostOffset{0}, header_bytes_switched);
  const auto features = core::load_big_endian<std::uint64_t>(sector, header_field::incompatible_features);
  core::store_big_endian(core::MutableBytes(sector), header_field::incompatible_features,
                         features & ~incompatible::corrupt);
  writer.write(HostOffset{0}, sector);
  writer.sync();
}

void rebuild(const ReadOnlyFile& file, ImageWriter& writer, const ImageLayout& layout) {
  MetadataTarget target = as_it_is(file, layout);
  target.mends = true;
  for (Snapshot& snapshot : target.snapshots) {
    const bool incomplete = layout.header.version >= 3 && snapshot.extra_data.size() < snapshot_extra_data_v3_min;
    if (incomplete) snapshot.extra_data = encode_extra_data(layout.disk_size());
  }
  switch_metadata(file, writer, layout, target);
}

/// `look` gives the image, as it is then, to be read.
template <class Look>
std::optional<RepairResult> repair(Look look, ImageWriter& writer, Repair what, const CheckOptions& options) {
  const ReadOnlyFile file = look();
  if (!is_qcow2(file)) return std::nullopt;
  RepairResult result;
  result.before = result.after = Check(file, options).run();
  const ImageLayout layout = read_layout(file);
  const std::uint64_t marks = layout.header.incompatible_features & (incompatible::dirty | incompatible::corrupt);
  const bool sound = result.before.corruptions == 0 && result.before.check_errors == 0;
  if (what == Repair::leaks && (!sound || marks != 0)) return result;
  if (sound && result.before.leaks == 0 && marks == 0) return result;

  rebuild(file, writer, layout);
  const ReadOnlyFile rebuilt = look();
  result.after = Check(rebuilt, options).run();
  const bool mended = result.after.corruptions == 0 && result.after.check_errors == 0;
  if (mended && (marks & incompatible::corrupt) != 0) clear_corrupt_mark(rebuilt, writer);
  return result;
}

std::optional<CheckResult> check(const ReadOnlyFile& file, const CheckOptions& options) {
  if (!is_qcow2(file)) return std::nullopt;
  return Check(file, options).run();
}

}  // namespace

std::optional<RepairResult> repair_image(const std::string& path, Repair what, const CheckOptions& options) {
  const std::unique_ptr<ImageWriter> writer = open_image_writer(path);
  return repair([&path] { return ReadOnlyFile(path); }, *writer, what, options);
}

std::optional<RepairResult> repair_image(const OpenImage& image, Repair what, const CheckOptions& options) {
  const std::unique_ptr<ImageWriter> writer = writer_of(image.file);
  return repair([&image] { return ReadOnlyFile(image.file, image.name); }, *writer, what, options);
}

std::optional<CheckResult> check_image(const std::string& path, const CheckOptions& options) {
  return check(ReadOnlyFile(path, ReadOnlyFile::Lock::against_writers), options);
}

std::optional<CheckResult> check_image(const OpenImage& image, const CheckOptions& options) {
  return check(ReadOnlyFile(image.file, image.name), options);
}

}  // namespace qcow2
