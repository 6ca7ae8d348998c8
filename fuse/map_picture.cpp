#include "fuse/map_picture.h"

#include <algorithm>

namespace fuse {
namespace {

constexpr std::uint64_t columns = 64;
constexpr std::uint64_t rows_max = 16;

constexpr const char* plain = "\033[0m";
constexpr const char* free_colour = "\033[90m";        // grey
constexpr const char* metadata_colour = "\033[35m";    // magenta
constexpr const char* standard_colour = "\033[34m";    // blue
constexpr const char* compressed_colour = "\033[32m";  // green

constexpr const char* free_mark = "·";
constexpr const char* full_mark = "█";
constexpr std::array<const char*, 4> fill_marks = {"░", "▒", "▓", full_mark};

std::size_t index_of(Use use) { return static_cast<std::size_t>(use); }

std::string painted(const char* colour, const std::string& text) { return colour + text + plain; }

}  // namespace

MapPicture::MapPicture(std::uint64_t file_size, std::uint64_t cluster_size) {
  const std::uint64_t clusters = file_size / cluster_size + (file_size % cluster_size != 0 ? 1 : 0);
  const std::uint64_t cells_max = columns * rows_max;
  const std::uint64_t clusters_per_cell = std::max<std::uint64_t>(1, (clusters + cells_max - 1) / cells_max);
  cell_bytes_ = clusters_per_cell * cluster_size;
  cells_.resize((clusters + clusters_per_cell - 1) / clusters_per_cell);
}

void MapPicture::add(Use use, std::uint64_t at, std::uint64_t length) {
  while (length != 0 && at / cell_bytes_ < cells_.size()) {
    const std::uint64_t part = std::min(length, cell_bytes_ - at % cell_bytes_);
    cells_[at / cell_bytes_][index_of(use)] += part;
    at += part;
    length -= part;
  }
}

std::string MapPicture::draw(const Cell& cell) const {
  const std::uint64_t metadata = cell[index_of(Use::metadata)];
  const std::uint64_t standard = cell[index_of(Use::standard)];
  const std::uint64_t compressed = cell[index_of(Use::compressed)];
  const std::uint64_t most = std::max({metadata, standard, compressed});
  if (most == 0) return painted(free_colour, free_mark);
  const std::uint64_t level = std::min<std::uint64_t>(most * fill_marks.size() / cell_bytes_, fill_marks.size() - 1);
  const char* colour = metadata == most ? metadata_colour : standard == most ? standard_colour : compressed_colour;
  return painted(colour, fill_marks[level]);
}

std::string MapPicture::draw() const {
  std::string picture;
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    picture += draw(cells_[i]);
    if ((i + 1) % columns == 0 || i + 1 == cells_.size()) picture += "\n";
  }
  picture += std::to_string(cell_bytes_) + " bytes of the image each:  " + painted(metadata_colour, full_mark) +
             " metadata  " + painted(standard_colour, full_mark) + " standard  ";
  for (const char* mark : fill_marks) picture += painted(compressed_colour, mark);
  return picture + " compressed, by fill  " + painted(free_colour, free_mark) + " free\n";
}

}  // namespace fuse
