// The rooms of an open image, wired: one object that serves the guest's disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "core/async.h"
#include "core/engine.h"
#include "core/fail_stop.h"
#include "core/guest_disk.h"
#include "core/patient_file.h"
#include "qcow2/flow/admission.h"
#include "qcow2/flow/assembler.h"
#include "qcow2/flow/backing.h"
#include "qcow2/flow/change_gate.h"
#include "qcow2/flow/cleaner.h"
#include "qcow2/flow/commit.h"
#include "qcow2/flow/compaction.h"
#include "qcow2/flow/encoder.h"
#include "qcow2/flow/giving_back.h"
#include "qcow2/flow/holes.h"
#include "qcow2/flow/mover.h"
#include "qcow2/flow/placer.h"
#include "qcow2/flow/reader.h"
#include "qcow2/format/header.h"
#include "qcow2/host/block_use.h"
#include "qcow2/host/cluster_allocator.h"
#include "qcow2/host/compressed_write_cache.h"
#include "qcow2/host/data_file.h"
#include "qcow2/host/fragment_allocator.h"
#include "qcow2/host/header_sector.h"
#include "qcow2/host/readers.h"
#include "qcow2/host/refcounts.h"
#include "qcow2/host/space_reserve.h"
#include "qcow2/image.h"
#include "qcow2/limits.h"
#include "qcow2/map/guest_map.h"

namespace qcow2 {

/// See core::GuestDisk for the contract, and flow/commit.cpp for the order in which things become durable.
class Disk final : public core::GuestDisk {
 public:
  /// `data` and `backing` are null where the image has none.
  Disk(core::Engine& engine, core::BlockFile& file, const Header& header, core::Buffer first_sector,
       std::unique_ptr<core::BlockFile> data, std::unique_ptr<core::GuestDisk> backing, const ImageOptions& options);
  ~Disk() override;

  /// Reads the tables.
  core::Awaitable<void> open();
  /// Starts the encoder lanes and the background commits: from then on close() must be awaited.
  void start();
  HeaderSector& header_sector() { return header_sector_; }

  std::uint64_t size() const override { return size_; }
  std::uint32_t cluster_size() const override { return static_cast<std::uint32_t>(geometry_.cluster_size()); }
  std::uint64_t allocated_bytes() const override;
  bool read_only() const override { return options_.read_only; }
  core::ErrorCode failure() const override;
  core::DiskStatus status() const override;
  void set_commit_interval(std::chrono::milliseconds interval) override;
  void set_cache_size(std::uint64_t bytes) override;
  void set_workers(std::size_t threads) override;
  void set_cleaning(Cleaning cleaning) override;

  core::Awaitable<void> read(core::DiskOffset at, core::MutableBytes target) override;
  core::Awaitable<void> write(core::DiskOffset at, core::SharedBytes payload) override;
  core::Awaitable<void> zero(core::DiskOffset at, std::uint64_t length) override;
  core::Awaitable<void> resize(std::uint64_t size) override;
  core::Awaitable<void> flush() override;
  core::Awaitable<std::uint64_t> next_data(core::DiskOffset at) override;
  core::Awaitable<std::uint64_t> next_hole(core::DiskOffset at) override;
  core::Awaitable<void> compact(const core::CompactOrder& order) override;
  core::Awaitable<void> close() override;

 private:
  enum class Zeros { kept, cut_off };  ///< part of the disk, or beyond its end: there nothing needs to say so

  void require_writable() const;
  void require_resizable() const;
  std::uint64_t size_max() const;
  struct Reading {
    std::vector<Reader::Piece> pieces;
    std::vector<Readers::Hold> holds;
  };
  /// Fills what is dirty of `range`, and adds to `reading` where the rest is to be read.
  core::Awaitable<void> look_up(GuestCluster cluster, ByteRange range, core::MutableBytes target, Reading& reading);
  void add_gaps(GuestCluster cluster, L2Entry entry, ByteRange range, const std::vector<ByteRange>& gaps,
                core::MutableBytes target, Reading& reading);
  core::Awaitable<void> zero_range(GuestOffset begin, GuestOffset end, Zeros zeros);
  core::Awaitable<void> zero_part(GuestCluster cluster, ByteRange range);
  core::Awaitable<bool> takes_bytes_to_zero(GuestCluster cluster);
  core::Awaitable<void> zero_cluster(GuestCluster cluster, Zeros zeros);
  core::Awaitable<void> grow(std::uint64_t size);
  core::Awaitable<void> shrink(std::uint64_t size);
  core::Awaitable<std::uint64_t> seek(core::DiskOffset at, Sought sought);
  core::Awaitable<void> keep_committing();
  core::Awaitable<void> commit_or_tidy_up(bool due);
  bool quiet() const;
  core::Awaitable<void> keep_clean();
  core::Awaitable<void> clean_once();
  bool quiet_for_long() const;
  bool must_end() const { return closing_ && movers_ == 0; }
  core::Awaitable<void> end_background();
  core::Awaitable<void> finish();

  core::Engine& engine_;
  ImageOptions options_;
  std::uint32_t version_;
  CompressionType compression_;
  bool resizable_;
  bool surveyed_;  ///< every fragment of the image has its name in the tables that are open
  Geometry geometry_;
  GuestMap::Tables tables_;
  HostOffset refcount_table_;
  std::uint64_t refcount_table_clusters_;
  limits::Budget budget_;
  std::uint64_t fresh_block_;
  std::uint64_t size_;  ///< bytes the guest sees; the header holds it rounded up to 512

  core::FailStop failure_;
  std::unique_ptr<ImageAndData> with_data_;  ///< where it has an external data file
  core::PatientFile file_;
  std::unique_ptr<Codec> codec_;
  HeaderSector header_sector_;
  Refcounts refcounts_;
  SpaceReserve space_;
  ClusterAllocator clusters_;
  BlockUse block_use_;
  CompressedWriteCache cache_;
  FragmentAllocator fragments_;
  Readers readers_;
  GuestMap map_;
  Backing backing_;
  Reader reader_;
  Assembler assembler_;
  Placer placer_;
  Encoder encoder_;
  Holes holes_;
  Commit commit_;
  Admission admission_;
  GivingBack giving_back_;
  ChangeGate gate_{failure_};  ///< a shrink has the disk to itself
  Mover mover_;
  Cleaner cleaner_;

  std::uint64_t changes_ = 0;     ///< ever begun: writes, zeroes, resizes
  ChangeGate resizes_{failure_};  ///< under way or waiting: never closed
  bool tail_is_clean_ = false;    ///< nothing is allocated beyond the disk's end
  core::AsyncMutex resizing_;
  core::AsyncMutex growing_;
  bool closing_ = false;
  bool keeper_running_ = false;
  unsigned movers_ = 0;  ///< the cleaner and compactions, which need the keeper until they end
  bool compacting_ = false;
  core::WaitList keeper_ended_;
  core::WaitList cleaning_set_;
};

}  // namespace qcow2
