// A raw disk in memory, for testing what stands on top of one: sparse, and failing on demand.
#pragma once

#include <map>
#include <optional>

#include "core/engine.h"
#include "core/guest_disk.h"

namespace test {

class MemoryDisk final : public core::GuestDisk {
 public:
  explicit MemoryDisk(std::uint64_t size, std::uint32_t cluster_size = 65536, bool read_only = false)
      : size_(size), cluster_size_(cluster_size), read_only_(read_only) {}

  std::uint64_t size() const override { return size_; }
  std::uint32_t cluster_size() const override { return cluster_size_; }
  std::uint64_t allocated_bytes() const override { return clusters_.size() * cluster_size_; }
  bool read_only() const override { return read_only_; }
  core::ErrorCode failure() const override { return failure_; }

  core::Awaitable<void> read(core::DiskOffset at, core::MutableBytes target) override;
  core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes payload) override;
  core::Awaitable<void> zero(core::DiskOffset at, std::uint64_t length) override;
  core::Awaitable<void> resize(std::uint64_t size) override;
  core::Awaitable<void> flush() override;
  core::Awaitable<std::uint64_t> next_data(core::DiskOffset at) override;
  core::Awaitable<std::uint64_t> next_hole(core::DiskOffset at) override;
  core::Awaitable<void> close() override;

  /// From now on flush() and close() fail, as after a write that the device lost.
  void fail(core::ErrorCode code) { failure_ = code; }
  std::size_t flushes() const { return flushes_; }
  bool closed() const { return closed_; }

 private:
  /// Calls visit(cluster index, offset in it, length) for the pieces of [at, at + length).
  template <class Visit>
  void for_each_piece(core::DiskOffset at, std::uint64_t length, Visit visit);
  bool is_allocated(std::uint64_t at) const { return clusters_.contains(at / cluster_size_); }

  std::uint64_t size_;
  std::uint32_t cluster_size_;
  bool read_only_;
  std::map<std::uint64_t, core::Buffer> clusters_;
  core::ErrorCode failure_;
  std::size_t flushes_ = 0;
  bool closed_ = false;
};

}  // namespace test
