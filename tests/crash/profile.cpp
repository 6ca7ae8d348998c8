#include "tests/crash/profile.h"

#include <algorithm>
#include <map>

#include "core/alignment.h"
#include "core/big_endian.h"
#include "qcow2/format/header.h"
#include "tests/crash/scratch.h"

namespace crash {
namespace {

struct Shape {
  std::uint64_t cluster_size;
  unsigned share;
  std::uint64_t area_clusters_max;
};

constexpr Shape shapes[] = {{512, 30, 192},  {1024, 12, 128}, {4096, 22, 64},
                            {16384, 15, 24}, {65536, 20, 10}, {2 << 20, 1, 3}};

const Shape& draw_shape(Random& random) {
  std::uint64_t point = random.below(100);
  for (const Shape& shape : shapes) {
    if (point < shape.share) return shape;
    point -= shape.share;
  }
  return shapes[point % 2 == 0 ? 0 : 2];
}

// Every refcount block but the first few comes as full of leaks: the next one opens a new block, or a new table.
void add_full_blocks(Image& image, std::uint64_t cluster, unsigned refcount_bits, std::uint64_t blocks) {
  const auto table = core::load_big_endian<std::uint64_t>(image, qcow2::header_field::refcount_table_offset);
  const std::uint64_t per_block = cluster * 8 / refcount_bits;
  const std::uint64_t present = (image.size() / cluster + per_block - 1) / per_block;
  const std::uint64_t end = std::min(present + blocks, cluster / 8);
  image.resize(end * per_block * cluster);
  for (std::uint64_t block = present; block < end; ++block) {
    const std::uint64_t at = block * per_block * cluster;
    core::store_big_endian(core::MutableBytes(image), table + block * 8, at);
    for (std::uint64_t i = 0; i < cluster; i += 8) {  // every count is 1
      std::uint64_t word = 0;
      for (unsigned bit = 0; bit < 64; bit += refcount_bits) word |= 1ull << bit;
      core::store_big_endian(core::MutableBytes(image), at + i, word);
    }
  }
}

// Room for what the guest may write, also where hardly anything is given back in time.
void put_on_device(Image& image, const Profile& profile) {
  const std::uint64_t room = 16 * profile.habits.area + 256 * profile.create.cluster_size;
  const std::size_t front = image.size();
  image.resize(core::align_up(front + room, 4096));
  Random random(front);
  for (std::size_t at = front; at < image.size(); ++at) image[at] = static_cast<std::byte>(random.below(256));
}

void draw_guest(Profile& profile, const Shape& shape, Random& random) {
  Habits& habits = profile.habits;
  habits.area =
      random.between(std::min<std::uint64_t>(4, shape.area_clusters_max), shape.area_clusters_max) * shape.cluster_size;
  habits.operations = static_cast<unsigned>(random.between(15, 60));
  habits.actors = static_cast<unsigned>(random.between(1, 5));
  habits.clusters_max = random.between(1, std::min<std::uint64_t>(shape.area_clusters_max / 2, 12));
  habits.discards = static_cast<unsigned>(random.below(6));
  habits.flushes = static_cast<unsigned>(random.between(1, 6));
  habits.resizes = static_cast<unsigned>(random.chance(15) ? 6 : random.below(3));
  habits.reads = static_cast<unsigned>(random.chance(30) ? 10 : random.below(4));
  habits.whims = static_cast<unsigned>(random.chance(20) ? 12 : random.below(2));
  if (random.chance(25)) habits.opening_whims = static_cast<unsigned>(random.between(1, 3));
  if (random.chance(25)) habits.opening_churns = static_cast<unsigned>(random.between(1, 4));
  if (random.chance(30)) habits.opening_duels = static_cast<unsigned>(random.between(1, 3));
  if (random.chance(30)) habits.opening_spreads = static_cast<unsigned>(random.between(1, 4));
  const std::uint64_t per_table = shape.cluster_size * (shape.cluster_size / 8);
  if (random.chance(25)) {  // beyond what the L1 table of the fresh image can name
    const std::uint64_t tables =
        shape.cluster_size <= 1024 ? shape.cluster_size / 8 + random.below(40) : random.between(1, 3);
    habits.far = std::min<std::uint64_t>(per_table * tables, 1ull << 40);
  }
  profile.create.size = random.chance(70) ? habits.area : habits.area / random.between(2, 5);
  if (random.chance(8)) profile.create.size = 0;
}

}  // namespace

Profile draw_profile(std::uint64_t seed) {
  Random random(mix(seed, 1));
  const Shape& shape = draw_shape(random);
  Profile profile;
  profile.create.cluster_size = shape.cluster_size;
  const unsigned widths[] = {1, 2, 16, 16, 16, 64};
  profile.create.refcount_bits = widths[random.below(6)];
  if (shape.cluster_size == 512 && random.chance(50)) profile.create.refcount_bits = 64;
  profile.create.compression = random.chance(35) ? qcow2::CompressionType::zstd : qcow2::CompressionType::zlib;
  profile.block_size = random.chance(30) ? 4096 : 512;
  profile.sector_size = profile.block_size == 4096 && random.chance(50) ? 4096 : 512;
  profile.open.level = static_cast<int>(random.between(1, 2));
  const std::uint64_t caches[] = {0, 0, 1 << 20, 8 << 20};  // with none, whoever places a fragment waits for room
  profile.open.cache_size = caches[random.below(4)];
  profile.open.tables_size = random.chance(30) ? 0 : 1 << 20;
  profile.open.commit_interval_ms = static_cast<unsigned>(random.between(1, 40));
  draw_guest(profile, shape, random);
  if (shape.cluster_size <= 1024 && random.chance(50)) {
    const std::uint64_t entries = shape.cluster_size / 8;
    profile.full_blocks = random.chance(60) && profile.create.refcount_bits >= 16 && shape.cluster_size == 512
                              ? entries - random.between(1, 6)
                              : random.between(1, 6);
    if (profile.create.refcount_bits < 16) profile.full_blocks = random.below(2);
  }
  profile.sessions = static_cast<unsigned>(random.chance(40) ? random.between(2, 3) : 1);
  profile.marked = random.chance(50);
  profile.snapshots = profile.create.refcount_bits >= 16 && random.chance(40);
  profile.create.extended_l2 = shape.cluster_size >= 16384 && random.chance(40);
  constexpr qcow2::Cleaning cleanings[] = {qcow2::Cleaning::idle, qcow2::Cleaning::on, qcow2::Cleaning::off};
  profile.open.clean = cleanings[random.below(3)];
  profile.open.clean_from = 4096;
  profile.open.discard = random.chance(80);
  if (!profile.snapshots && random.chance(30)) profile.habits.compactions = static_cast<unsigned>(random.between(1, 3));
  if (!profile.snapshots && random.chance(20)) {
    profile.habits.opening_presses = static_cast<unsigned>(random.between(1, 3));
  }
  profile.device = shape.cluster_size <= 16384 && profile.full_blocks == 0 && random.chance(25);
  return profile;
}

std::string Profile::text() const {
  return "cluster " + std::to_string(create.cluster_size) + ", refcount bits " + std::to_string(create.refcount_bits) +
         (create.compression == qcow2::CompressionType::zstd ? ", zstd" : ", zlib") +
         (create.extended_l2 ? ", extended L2" : "") + ", disk " + std::to_string(create.size) + ", block " +
         std::to_string(block_size) + ", sector " + std::to_string(sector_size) + ", full refcount blocks " +
         std::to_string(full_blocks) + (device ? ", on a device" : "") + ", sessions " + std::to_string(sessions) +
         (snapshots ? " with snapshots" : "") + ", area " + std::to_string(habits.area) + ", far " +
         std::to_string(habits.far) + ", actors " + std::to_string(habits.actors) + ", operations " +
         std::to_string(habits.operations);
}

Image make_image(const Profile& profile) {
  static std::map<std::string, Image> made;
  const qcow2::CreateOptions& create = profile.create;
  const std::string key = std::to_string(create.cluster_size) + "/" + std::to_string(create.refcount_bits) + "/" +
                          std::to_string(static_cast<int>(create.compression)) + (create.extended_l2 ? "x" : "") + "/" +
                          std::to_string(create.size) + "/" + std::to_string(profile.full_blocks) +
                          (profile.device ? "/" + std::to_string(profile.habits.area) : "");
  const auto known = made.find(key);
  if (known != made.end()) return known->second;
  const ScratchFile file("fresh");
  qcow2::create_image(file.path(), create);
  Image image = file.read();
  if (profile.full_blocks != 0) add_full_blocks(image, create.cluster_size, create.refcount_bits, profile.full_blocks);
  if (profile.device) put_on_device(image, profile);
  if (made.size() > 64) made.clear();
  made.emplace(key, image);
  return image;
}

}  // namespace crash
