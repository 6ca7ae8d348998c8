// The directory of persistent bitmaps, and the tables that it names.
//
//   entry   0  table offset   8  its entries   12  flags   16  type   17  granularity bits   18  bytes of the name
//          20  bytes of extra data   24  extra data, name, padding to 8
#pragma once

#include <string>
#include <vector>

#include "qcow2/offline/image_layout.h"

namespace qcow2 {

struct StoredBitmap {
  std::string name;
  std::uint64_t granularity = 0;  ///< bytes of the disk that one bit stands for
  bool in_use = false;            ///< whoever kept it up to date last did not finish: it says nothing
  bool automatic = false;         ///< kept up to date by whoever opens the image for writing
  HostExtent table;
  std::vector<HostOffset> clusters;  ///< what the table names
};

/// Calls `visit` with each in turn, so that one table at a time is in memory. Throws corrupt_image where QEMU would not
/// open the image.
class BitmapReader {
 public:
  BitmapReader(const ReadOnlyFile& file, const ImageLayout& layout);

  template <class Visit>
  void for_each(Visit visit) {
    while (const std::vector<std::byte>::size_type left = directory_.size() - at_) visit(next(left));
    expect_all();
  }

 private:
  StoredBitmap next(std::size_t left);
  std::vector<HostOffset> read_table(HostExtent table, const std::string& name) const;
  bool covers_disk(std::uint32_t table_entries, unsigned granularity_bits) const;
  void expect_all() const;
  void require(bool holds, const std::string& what) const;
  [[noreturn]] void refuse(const std::string& what) const;

  const ReadOnlyFile& file_;
  const ImageLayout& layout_;
  std::vector<std::byte> directory_;
  std::size_t at_ = 0;
  std::uint32_t seen_ = 0;
  std::uint64_t table_bytes_ = 0;  ///< of all that were seen
};

}  // namespace qcow2
