#include "tests/fuzz/mutation.h"

#include <algorithm>

#include "core/alignment.h"
#include "qcow2/format/table_entries.h"

namespace fuzz {
namespace {

constexpr int changes_max = 16;
constexpr std::uint64_t growth_max = 1 << 20;

std::uint64_t load(const Bytes& content, std::uint64_t at, unsigned width) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < width && at + i < content.size(); ++i) {
    value = value << 8 | std::to_integer<std::uint64_t>(content[at + i]);
  }
  return value;
}

void store(Bytes& content, std::uint64_t at, unsigned width, std::uint64_t value) {
  for (unsigned i = 0; i < width && at + i < content.size(); ++i) {
    content[at + i] = static_cast<std::byte>(value >> 8 * (width - 1 - i));
  }
}

std::uint64_t place(FuzzedDataProvider& data, const MutatedImage& image) {
  const std::vector<std::uint64_t>& places = image.sample->places;
  const std::size_t chosen = data.ConsumeIntegralInRange<std::size_t>(0, places.size() + 1);
  if (chosen < places.size()) return places[chosen];
  if (chosen == places.size()) return core::align_up(image.content.size(), image.sample->cluster_size);
  const std::uint64_t clusters = image.content.size() / image.sample->cluster_size;
  return data.ConsumeIntegralInRange<std::uint64_t>(0, clusters) * image.sample->cluster_size;
}

std::uint64_t hurtful(FuzzedDataProvider& data, const MutatedImage& image, std::uint64_t before) {
  constexpr std::uint64_t flags[] = {0, qcow2::entry_copied, qcow2::l2_entry_compressed, qcow2::l2_entry_zero,
                                     qcow2::entry_copied | qcow2::l2_entry_zero};
  constexpr std::uint64_t numbers[] = {0,          1,          2,          9,          21,         22,
                                       0x7fff,     0xffff,     0x7fffffff, 0xffffffff, 1ull << 55, (1ull << 56) - 512,
                                       1ull << 62, 1ull << 63, ~0ull,      ~0ull - 511};
  switch (data.ConsumeIntegralInRange<int>(0, 5)) {
    case 0: return numbers[data.ConsumeIntegralInRange<std::size_t>(0, std::size(numbers) - 1)];
    case 1: return place(data, image) | flags[data.ConsumeIntegralInRange<std::size_t>(0, std::size(flags) - 1)];
    case 2: return before + data.ConsumeIntegral<std::uint8_t>() - 128;
    case 3: return before ^ 1ull << data.ConsumeIntegralInRange<unsigned>(0, 63);
    case 4: return before + image.sample->cluster_size;
    default: return data.ConsumeIntegral<std::uint64_t>();
  }
}

void change_entry(FuzzedDataProvider& data, MutatedImage& image) {
  const std::vector<Table>& tables = image.sample->tables;
  const Table& table = tables[data.ConsumeIntegralInRange<std::size_t>(0, tables.size() - 1)];
  const std::uint64_t index = data.ConsumeIntegralInRange<std::uint64_t>(0, table.count - 1);
  const std::uint64_t at = table.at + index * table.width;
  store(image.content, at, table.width, hurtful(data, image, load(image.content, at, table.width)));
}

void copy_entry(FuzzedDataProvider& data, MutatedImage& image) {
  const std::vector<Table>& tables = image.sample->tables;
  std::uint64_t at[2];
  for (std::uint64_t& chosen : at) {
    const Table& table = tables[data.ConsumeIntegralInRange<std::size_t>(0, tables.size() - 1)];
    chosen = table.at + data.ConsumeIntegralInRange<std::uint64_t>(0, table.count - 1) * table.width;
  }
  store(image.content, at[0], 8, load(image.content, at[1], 8));
}

void change(FuzzedDataProvider& data, MutatedImage& image) {
  switch (data.ConsumeIntegralInRange<int>(0, 7)) {
    case 0: {
      const std::size_t at = data.ConsumeIntegralInRange<std::size_t>(0, image.content.size());
      store(image.content, at, 1, data.ConsumeIntegral<std::uint8_t>());
      return;
    }
    case 1: return copy_entry(data, image);
    case 2: return image.content.resize(data.ConsumeIntegralInRange<std::size_t>(0, image.content.size()));
    case 3: return image.content.resize(image.content.size() + data.ConsumeIntegralInRange<std::size_t>(0, growth_max));
    default: return change_entry(data, image);
  }
}

}  // namespace

MutatedImage mutate(FuzzedDataProvider& data) {
  MutatedImage image;
  const std::vector<SampleImage>& samples = sample_images();
  image.sample = &samples[data.ConsumeIntegralInRange<std::size_t>(0, samples.size() - 1)];
  image.content = image.sample->content;
  const int changes = data.ConsumeIntegralInRange<int>(0, changes_max);
  for (int i = 0; i < changes; ++i) change(data, image);
  return image;
}

}  // namespace fuzz
