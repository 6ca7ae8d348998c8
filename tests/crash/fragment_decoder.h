// What a stored cluster says, in hashes of its guest sectors; each distinct content is decoded once.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "core/bytes.h"
#include "tests/crash/content_hash.h"

namespace crash {

/// Written from the format alone, with the reference libraries: no code of the engine judges itself.
class FragmentDecoder {
 public:
  using Hashes = std::vector<std::uint64_t>;

  /// Of every guest sector in the cluster; null where the fragment does not decode to exactly one cluster. Valid until
  /// forget().
  const Hashes* compressed(core::Bytes fragment, std::size_t cluster_size, bool zstd);
  const Hashes* standard(core::Bytes cluster);
  /// Frees memory when there is a lot of it.
  void forget_if_large();

  /// False where the fragment is damaged.
  static bool decode(core::Bytes fragment, core::MutableBytes cluster, bool zstd);

 private:
  static std::unique_ptr<Hashes> hash_cluster(core::Bytes cluster);

  std::unordered_map<std::uint64_t, std::unique_ptr<Hashes>> known_;
  std::size_t known_sectors_ = 0;
};

}  // namespace crash
