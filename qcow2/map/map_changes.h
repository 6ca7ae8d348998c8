// What one batch changes of the map, before any of it is on disk.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "core/offset.h"
#include "qcow2/format/geometry.h"
#include "qcow2/limits.h"

namespace qcow2 {

inline constexpr std::size_t slice_entries_max = limits::slice_bytes / 8;

/// The changed entries of one slice of an L2 table.
struct SliceChanges {
  std::bitset<slice_entries_max> changed;
  std::array<std::byte, limits::slice_bytes> entries{};  ///< as stored; meaningful where `changed`
};

/// Another L1 table, on its way to replace the present one.
struct MovedL1 {
  HostOffset at;
  std::uint64_t entries = 0;
};

/// References given up: dropped once the batch that gives them up is durable.
struct Lost {
  std::vector<HostClusters> clusters;
  std::vector<HostExtent> fragments;  ///< of these references, those that were compressed clusters': the bytes of each
  std::uint64_t bytes = 0;            ///< that may become free

  bool empty() const { return clusters.empty(); }
};

/// One batch: everything that becomes durable together.
struct MapChanges {
  std::map<std::uint64_t, std::unique_ptr<SliceChanges>> slices;  ///< by slice number on the guest's disk
  std::map<std::uint64_t, std::uint64_t> l1;                      ///< changed L1 entries, as stored
  std::optional<std::uint64_t> disk_size;                         ///< new size in the header, bytes
  std::optional<MovedL1> moved_l1;
  std::set<std::uint64_t> tables_wanted;  ///< L1 entries without a table of their own when something was set there
  std::set<std::uint64_t> tables_moved;   ///< L1 entries whose table shall lie elsewhere
  bool l1_moves = false;                  ///< so shall the L1 table
  bool names_new_space = false;           ///< an entry names host space that no durable entry names
  Lost lost;

  bool empty() const {
    return slices.empty() && l1.empty() && !disk_size && lost.empty() && tables_moved.empty() && !l1_moves;
  }
};

}  // namespace qcow2
