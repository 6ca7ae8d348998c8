// Writes what fuzzing starts from: make_seeds FOLDER makes FOLDER/<target>/<number>.
#include <filesystem>
#include <iostream>

#include "core/big_endian.h"
#include "tests/fuzz/sample_images.h"

namespace fuzz {
namespace {

class Seeds {
 public:
  Seeds(std::filesystem::path folder, const char* target) : folder_(std::move(folder) / target) {
    std::filesystem::create_directories(folder_);
  }
  void add(const Bytes& bytes) { test::write_file((folder_ / std::to_string(number_++)).string(), bytes); }

 private:
  std::filesystem::path folder_;
  int number_ = 0;
};

Bytes part(const Bytes& bytes, std::uint64_t at, std::uint64_t length) {
  Bytes found;
  for (std::uint64_t i = at; i < at + length && i < bytes.size(); ++i) found.push_back(bytes[i]);
  return found;
}

Bytes behind(unsigned first, const Bytes& rest) {
  Bytes all{static_cast<std::byte>(first)};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

unsigned cluster_choice(const SampleImage& image) {
  unsigned shift = 0;
  while (512ull << shift < image.cluster_size) ++shift;
  return shift << 1 | (image.zstd ? 1 : 0);
}

std::uint64_t directory_of(const SampleImage& sample) {
  return core::load_big_endian<std::uint64_t>(sample.content, sample.bitmap_extension + 24);
}

void make(const std::filesystem::path& folder) {
  Seeds header(folder, "header");
  Seeds entries(folder, "entries");
  Seeds decoder(folder, "decoder");
  Seeds snapshots(folder, "snapshots");
  Seeds bitmaps(folder, "bitmaps");
  Seeds partitions(folder, "partitions");
  Seeds image(folder, "image");
  Seeds offline(folder, "offline");
  Seeds changes(folder, "changes");
  unsigned number = 0;
  for (const SampleImage& sample : sample_images()) {
    header.add(part(sample.content, 0, 1024));
    for (const Table& table : sample.tables)
      entries.add(part(sample.content, table.at, std::min(64ul, 8 * table.count)));
    for (std::size_t i = 0; i < sample.fragments.size() && i < 3; ++i) {
      decoder.add(behind(cluster_choice(sample), sample.fragments[i]));
    }
    if (sample.snapshot_table != 0) snapshots.add(behind(1, part(sample.content, sample.snapshot_table, 256)));
    if (sample.bitmap_extension != 0) bitmaps.add(behind(1, part(sample.content, directory_of(sample), 32)));
    // Where these choose from: the last byte is the sample, those before it the changes and what is done afterwards.
    for (const unsigned length : {16u, 64u, 256u}) {
      Bytes choices = test::random_bytes(length, number);
      choices.push_back(std::byte{2});
      choices.push_back(static_cast<std::byte>(number));
      image.add(choices);
      offline.add(choices);
      changes.add(choices);
      partitions.add(choices);
    }
    ++number;
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "make_seeds FOLDER\n";
    return 2;
  }
  fuzz::make(arguments[1]);
  return 0;
}
