#include "qcow2/offline/image_layout.h"

#include <bit>

#include "core/big_endian.h"
#include "core/error.h"

namespace qcow2 {
namespace {

constexpr std::uint32_t bitmaps_extension = 0x23852875;
constexpr std::uint32_t luks_extension = 0x0537be77;

constexpr std::uint32_t crypt_method_luks = 2;
constexpr std::uint32_t bitmaps_max = 65535;
constexpr std::uint64_t bitmap_directory_bytes_max = std::uint64_t{1024} * bitmaps_max;

using core::Errc;
using core::fail;

class Reader {
 public:
  explicit Reader(const ReadOnlyFile& file) : file_(file), name_(file.path()) {}

  ImageLayout read() {
    layout_.header = parse_header(file_.read(HostOffset{0}, header_bytes_switched), name_, HeaderUse::to_check);
    check_features();
    require(layout_.geometry().is_cluster_aligned(layout_.header.snapshot_table),
            "the snapshot table offset is invalid");
    const std::vector<std::byte> first_cluster = file_.read(HostOffset{0}, layout_.geometry().cluster_size());
    for (const HeaderExtension& extension : parse_extensions(layout_.header, first_cluster, name_)) visit(extension);
    require(layout_.header.crypt_method != crypt_method_luks || layout_.luks_header.has_value(),
            "the image is encrypted, but does not say where its encryption header is");
    require(!layout_.external_data() || names_data_file_, "the image does not name its external data file");
    return layout_;
  }

 private:
  void require(bool holds, const char* what) const {
    if (!holds) fail(Errc::corrupt_image, name_ + ": " + what);
  }

  void check_features() const {
    const Header& header = layout_.header;
    const std::uint64_t unknown = header.incompatible_features & ~incompatible::known;
    if (unknown != 0) {
      fail(Errc::unsupported_feature,
           name_ + ": unknown incompatible feature bit " + std::to_string(std::countr_zero(unknown)));
    }
  }

  void visit(const HeaderExtension& extension) {
    if (extension.type == bitmaps_extension) visit_bitmaps(extension.data);
    if (extension.type == luks_extension) visit_luks(extension.data);
    if (extension.type == extension::data_file_name) names_data_file_ = true;
  }

  void visit_bitmaps(core::Bytes data) {
    require(data.size() == 24, "the bitmaps extension has a wrong length");
    // Without the feature bit somebody wrote to the image who did not know of bitmaps: they count for nothing.
    if ((layout_.header.autoclear_features & autoclear::bitmaps) == 0) return;
    BitmapDirectory directory;
    directory.bitmaps = core::load_big_endian<std::uint32_t>(data, 0);
    directory.extent.length = core::load_big_endian<std::uint64_t>(data, 8);
    directory.extent.at = HostOffset{core::load_big_endian<std::uint64_t>(data, 16)};
    require(core::load_big_endian<std::uint32_t>(data, 4) == 0, "the bitmaps extension has reserved bits set");
    require(directory.bitmaps != 0 && directory.bitmaps <= bitmaps_max,
            "the bitmaps extension has an impossible number of bitmaps");
    require(layout_.geometry().is_cluster_aligned(directory.extent.at) && directory.extent.at.value <= host_offset_max,
            "the bitmap directory offset is invalid");
    require(directory.extent.length != 0 && directory.extent.length <= bitmap_directory_bytes_max,
            "the bitmap directory has an impossible size");
    layout_.bitmaps = directory;
  }

  void visit_luks(core::Bytes data) {
    require(layout_.header.crypt_method == crypt_method_luks, "an encryption header in an image without encryption");
    require(data.size() == 16, "the encryption extension has a wrong length");
    const HostExtent extent{HostOffset{core::load_big_endian<std::uint64_t>(data, 0)},
                            core::load_big_endian<std::uint64_t>(data, 8)};
    require(layout_.geometry().is_cluster_aligned(extent.at), "the encryption header offset is invalid");
    layout_.luks_header = extent;
  }

  const ReadOnlyFile& file_;
  const std::string& name_;
  ImageLayout layout_;
  bool names_data_file_ = false;
};

}  // namespace

ImageLayout read_layout(const ReadOnlyFile& file) { return Reader(file).read(); }

}  // namespace qcow2
