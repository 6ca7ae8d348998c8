// Offsets as types: a byte of the guest's disk and a byte of the host's file must not compile together.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace core {

/// A byte position on one axis. Offset + length is an offset, offset - offset is a length; two offsets do not add.
template <class Axis>
struct Offset {
  std::uint64_t value = 0;  ///< bytes from the start of the axis

  friend constexpr auto operator<=>(Offset, Offset) = default;
  friend constexpr Offset operator+(Offset at, std::uint64_t length) { return {at.value + length}; }
  friend constexpr std::uint64_t operator-(Offset last, Offset first) { return last.value - first.value; }
};

/// A position counted in whole units (clusters, table entries) on one axis.
template <class Axis>
struct Index {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(Index, Index) = default;
  friend constexpr Index operator+(Index at, std::uint64_t count) { return {at.value + count}; }
  friend constexpr std::uint64_t operator-(Index last, Index first) { return last.value - first.value; }
};

using FileOffset = Offset<struct FileAxis>;  ///< byte in the image file on the host
using DiskOffset = Offset<struct DiskAxis>;  ///< byte of the raw disk the guest sees

}  // namespace core

template <class Axis>
struct std::hash<core::Offset<Axis>> {
  std::size_t operator()(core::Offset<Axis> offset) const { return std::hash<std::uint64_t>{}(offset.value); }
};

template <class Axis>
struct std::hash<core::Index<Axis>> {
  std::size_t operator()(core::Index<Axis> index) const { return std::hash<std::uint64_t>{}(index.value); }
};
