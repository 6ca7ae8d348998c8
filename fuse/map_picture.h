// A picture of an image file for a terminal: one cell for many clusters, in the colour of what they hold most of.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace fuse {

/// What bytes of the image are for.
enum class Use { metadata, standard, compressed };

class MapPicture {
 public:
  /// Both in bytes.
  MapPicture(std::uint64_t file_size, std::uint64_t cluster_size);

  /// [at, at + length) of the file, in bytes; what lies beyond its end is left out.
  void add(Use use, std::uint64_t at, std::uint64_t length);
  /// Lines with ANSI colours, and a legend.
  std::string draw() const;

 private:
  using Cell = std::array<std::uint64_t, 3>;  ///< bytes for each use

  std::string draw(const Cell& cell) const;

  std::uint64_t cell_bytes_;
  std::vector<Cell> cells_;
};

}  // namespace fuse
