// Claim   However long a disk is written over at random, its image stays near the size of a fresh one: dead blocks are
//         used again or given back, free clusters too, and clusters whose blocks are only partly used are emptied.
// Method  The policy alone, on the engine's own BlockUse: no bytes, no files. What an image takes on the host is its
//         blocks that living fragments touch. Guest clusters are written over by batches, as commits make them; a
//         batch's space comes back after it. Prints each figure, so that the policy can be judged where no test went.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "core/alignment.h"
#include "qcow2/flow/cleaner.h"
#include "qcow2/host/block_use.h"

namespace {

using qcow2::BlockUse;
using qcow2::Geometry;
using qcow2::HostCluster;
using qcow2::HostExtent;
using qcow2::HostOffset;

constexpr std::uint64_t block = 4096;

struct Work {
  unsigned cluster_bits = 16;
  double ratio = 2.5;  ///< of compression
  bool skewed = false;
  bool cleans = true;
  double goal = 0;  ///< of what is taken, beside a fresh image
};

// Where fragments go: a run of dead blocks, else the rest of the open cluster, else a free one.
class Image {
 public:
  explicit Image(unsigned cluster_bits) : geometry_{cluster_bits, 4}, use_(geometry_, block) {}

  HostExtent place(std::uint64_t length, bool densely) {
    if (cursor_ + length > end_) {
      const std::optional<HostExtent> run = densely ? std::nullopt : use_.find_run(length);
      if (run) {
        cursor_ = run->at.value;
        end_ = cursor_ + run->length;
      } else {
        open_cluster();
      }
    }
    const HostExtent extent{HostOffset{cursor_}, length};
    use_.add(extent);
    ++fragments_[extent.at.value >> geometry_.cluster_bits];
    cursor_ += length;
    return extent;
  }

  void seal() {
    cursor_ = core::align_up(cursor_, block);
    if (cursor_ >= end_) cursor_ = end_ = 0;
  }

  void remove(HostExtent extent) {
    const std::uint64_t cluster = extent.at.value >> geometry_.cluster_bits;
    use_.remove(extent);
    if (--fragments_[cluster] != 0) return;
    use_.freed(HostCluster{cluster});
    free_.insert(cluster);
  }

  std::uint64_t taken() const {
    return (fragments_.size() - free_.size()) * geometry_.cluster_size() - use_.dead_bytes();
  }
  bool is_sparse(HostExtent extent) const { return qcow2::Cleaner::is_sparse(use_, geometry_.cluster_of(extent.at)); }
  const Geometry& geometry() const { return geometry_; }

 private:
  void open_cluster() {
    std::uint64_t cluster = fragments_.size();
    if (free_.empty()) {
      fragments_.push_back(0);
    } else {
      cluster = *free_.begin();
      free_.erase(free_.begin());
    }
    cursor_ = cluster * geometry_.cluster_size();
    end_ = cursor_ + geometry_.cluster_size();
  }

  Geometry geometry_;
  BlockUse use_;
  std::vector<std::uint64_t> fragments_;  // of each cluster
  std::set<std::uint64_t> free_;
  std::uint64_t cursor_ = 0;
  std::uint64_t end_ = 0;
};

class Disk {
 public:
  explicit Disk(const Work& work)
      : work_(work), image_(work.cluster_bits), clusters_((192 << 20) >> work.cluster_bits) {
    for (std::uint64_t i = 0; i < clusters_.size(); ++i) clusters_[i] = image_.place(length(), false);
    image_.seal();
  }

  // Three times its size, by batches of a hundredth of it.
  void wear() {
    const std::uint64_t batch = clusters_.size() / 100 + 1;
    for (int i = 0; i < 300; ++i) {
      std::vector<HostExtent> lost;
      for (std::uint64_t n = 0; n < batch; ++n) replace(pick(), lost, length(), false);
      give_up(lost);
    }
  }

  void clean() {
    std::vector<HostExtent> lost;
    for (std::uint64_t i = 0; i < clusters_.size(); ++i) {
      if (image_.is_sparse(clusters_[i])) replace(i, lost, clusters_[i].length, true);
    }
    give_up(lost);
  }

  double amplification() const {
    std::uint64_t bytes = 0;
    for (const HostExtent& extent : clusters_) bytes += extent.length;
    return static_cast<double>(image_.taken()) / static_cast<double>(bytes);
  }

 private:
  std::uint64_t length() {
    const double mean = static_cast<double>(image_.geometry().cluster_size()) / work_.ratio;
    return static_cast<std::uint64_t>(std::uniform_real_distribution<>(mean * 0.7, mean * 1.3)(random_));
  }

  std::uint64_t pick() {
    const double uniform = std::uniform_real_distribution<>(0, 1)(random_);
    const double count = static_cast<double>(clusters_.size());
    if (!work_.skewed) return static_cast<std::uint64_t>(uniform * count);
    // The inverse of a Pareto distribution with the exponent 1.1 over the ranks, spread over the disk.
    const double power = -0.1;
    const double rank = std::pow(1 + uniform * (std::pow(count + 1, power) - 1), 1 / power) - 1;
    return static_cast<std::uint64_t>(rank) * 7919 % clusters_.size();
  }

  void replace(std::uint64_t cluster, std::vector<HostExtent>& lost, std::uint64_t length, bool densely) {
    lost.push_back(clusters_[cluster]);
    clusters_[cluster] = image_.place(length, densely);
  }

  void give_up(const std::vector<HostExtent>& lost) {
    image_.seal();
    for (const HostExtent& extent : lost) image_.remove(extent);
  }

  Work work_;
  std::mt19937_64 random_{7};
  Image image_;
  std::vector<HostExtent> clusters_;
};

class Amplification : public testing::TestWithParam<Work> {};

TEST_P(Amplification, StaysBelowTheGoal) {
  const Work& work = GetParam();
  Disk disk(work);
  disk.wear();
  const double worn = disk.amplification();
  if (work.cleans) disk.clean();
  std::printf("clusters of %llu KiB, ratio %.1f, %s: %.3f as it is written, %.3f once it was cleaned\n",
              (1ull << work.cluster_bits) >> 10, work.ratio, work.skewed ? "zipf" : "uniform", worn,
              disk.amplification());
  EXPECT_LE(disk.amplification(), work.goal);
  EXPECT_LE(disk.amplification(), worn + 0.001);
}

INSTANTIATE_TEST_SUITE_P(Works, Amplification,
                         testing::Values(Work{16, 2.5, false, true, 1.20}, Work{16, 2.5, true, true, 1.15},
                                         Work{16, 20, false, true, 1.35}, Work{16, 1.3, false, true, 1.20},
                                         Work{14, 2.5, false, true, 1.35}, Work{18, 2.5, false, true, 1.20},
                                         Work{21, 2.5, false, true, 1.20}, Work{21, 20, false, true, 1.20}));

}  // namespace
