// What kind of image and guest a seed stands for.
#pragma once

#include <cstdint>
#include <string>

#include "qcow2/create.h"
#include "qcow2/image.h"
#include "tests/crash/random.h"
#include "tests/crash/simulated_disk.h"

namespace crash {

/// How the guest behaves. Shares are relative to each other.
struct Habits {
  unsigned operations = 40;
  unsigned actors = 3;             ///< operations under way at once, at most
  std::uint64_t area = 0;          ///< bytes of the disk that are written over and over
  std::uint64_t far = 0;           ///< where the disk grows to at times; 0 for never
  std::uint64_t clusters_max = 4;  ///< of one write
  unsigned writes = 10;
  unsigned discards = 3;
  unsigned flushes = 4;
  unsigned resizes = 1;
  unsigned reads = 2;
  unsigned pauses = 1;
  unsigned whims = 1;  ///< writes that are discarded at once
  unsigned compactions = 0;
  unsigned opening_whims = 0;    ///< before anything else, when little is in memory
  unsigned opening_churns = 0;   ///< reads of what is overwritten meanwhile
  unsigned opening_duels = 0;    ///< rewrites and discards of one cluster beside many flushes, at the start
  unsigned opening_presses = 0;  ///< compactions beside writes and flushes of the tables that they move, at the start
  unsigned opening_spreads = 0;  ///< flushes beside each other, each of a new L2 table, at the start
  bool whole_sectors = false;    ///< offsets and lengths are multiples of 512
};

struct Profile {
  qcow2::CreateOptions create;
  qcow2::ImageOptions open;
  std::size_t block_size = 512;   ///< of the disk
  std::size_t sector_size = 512;  ///< what a power cut leaves whole
  std::uint64_t full_blocks = 0;  ///< refcount blocks that are there and full already, as leaks
  bool device = false;            ///< the image lies on a block device that was full of something else
  unsigned sessions = 1;          ///< the image is opened so often, one after the other
  bool marked = false;            ///< between them, something that other programs keep up to date is found to be so
  bool snapshots = false;         ///< between them, one is taken of the image
  Habits habits;
  std::string text() const;
};

Profile draw_profile(std::uint64_t seed);
/// An empty image, with the device around it; of each shape the file is made once.
Image make_image(const Profile& profile);

}  // namespace crash
