#include "qcow2/disk.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "core/alignment.h"
#include "core/check.h"
#include "core/error.h"
#include "qcow2/flow/survey.h"

namespace qcow2 {

Disk::Disk(core::Engine& engine, core::BlockFile& file, const Header& header, core::Buffer first_sector,
           std::unique_ptr<core::BlockFile> data, std::unique_ptr<core::GuestDisk> backing, const ImageOptions& options)
    : engine_(engine),
      options_(options),
      version_(header.version),
      compression_(header.compression),
      resizable_(header.version >= 3 || header.snapshots == 0),  // else a snapshot does not know its disk's size
      surveyed_(header.snapshots == 0 && !header.geometry.external_data && !options.read_only),
      geometry_(header.geometry),
      tables_{header.l1_table, header.l1_entries, header.size},
      refcount_table_(header.refcount_table),
      refcount_table_clusters_(header.refcount_table_clusters),
      budget_(limits::share_out(options.cache_size, geometry_.cluster_size())),
      fresh_block_(std::max<std::uint64_t>(limits::fresh_block_bytes, file.block_size())),
      size_(core::align_down(header.size, sector_size)),  // QEMU ignores a fraction of a sector too
      with_data_(data ? std::make_unique<ImageAndData>(engine, file, std::move(data)) : nullptr),
      file_(with_data_ ? *with_data_ : file, failure_),
      codec_(make_codec(header.compression, options.level, options.window)),
      header_sector_(file_, std::move(first_sector)),
      refcounts_(engine, file_, header_sector_, geometry_, options.tables_size / 2),
      space_(file_, refcounts_, geometry_, FragmentAllocator::chunk_clusters(geometry_, fresh_block_)),
      clusters_(refcounts_, space_, geometry_),
      block_use_(geometry_, fresh_block_),
      cache_(engine, file_, FragmentAllocator::chunk_size(geometry_, fresh_block_), budget_.compressed_bytes,
             limits::write_bytes_max),
      fragments_(clusters_, refcounts_, space_, block_use_, cache_, geometry_, fresh_block_),
      map_(engine, file_, header_sector_, clusters_, geometry_, options.tables_size / 2),
      backing_(std::move(backing), size_),
      reader_(engine, file_, cache_, backing_, *codec_, geometry_, version_, budget_.decoded_bytes),
      assembler_(engine, failure_, geometry_, budget_.dirty_bytes),
      placer_(file_, clusters_, fragments_, cache_, geometry_, fresh_block_),
      encoder_(engine, {assembler_, reader_, backing_, readers_, map_, placer_, *codec_, failure_}, geometry_,
               version_),
      holes_({assembler_, map_, backing_, readers_}, geometry_, version_),
      commit_(
          engine,
          {file_, assembler_, placer_, cache_, refcounts_, clusters_, block_use_, map_, reader_, readers_, failure_},
          geometry_),
      admission_({commit_, assembler_, placer_, map_, refcounts_, space_, reader_}, geometry_, budget_,
                 FragmentAllocator::chunk_clusters(geometry_, fresh_block_)),
      giving_back_(
          {file_, commit_, placer_, clusters_, space_, block_use_}, [this] { return quiet(); }, options.discard),
      mover_(engine, {gate_, commit_, admission_, placer_, cache_, map_, readers_, *codec_}, geometry_, version_),
      cleaner_(engine, {file_, commit_, mover_, map_, fragments_, block_use_}, geometry_, version_, size_,
               options.clean_from) {
  failure_.on_change([this] {
    assembler_.wake_all();
    commit_.wake_all();
    gate_.wake_all();
    keeper_ended_.wake_all();
    cleaning_set_.wake_all();
  });
}

Disk::~Disk() = default;

core::Awaitable<void> Disk::open() {
  co_await map_.open(tables_);
  if (!options_.read_only) co_await refcounts_.open(refcount_table_, refcount_table_clusters_);
  if (!options_.read_only && !file_.allocated_bytes()) co_await space_.count_in_use();
  if (surveyed_ && geometry_.cluster_size() > fresh_block_) {
    const std::uint64_t end = limits::tracked_holes_bytes + allocated_bytes();
    co_await survey(file_, map_.published_tables(), geometry_, end, block_use_);
    for (HostCluster cluster{0}; cluster < block_use_.end(); cluster = cluster + 1) {
      if (block_use_.dead_bytes(cluster) != 0) space_.has_holes(cluster);
    }
  }
}

void Disk::require_writable() const {
  if (options_.read_only) core::fail(core::Errc::read_only, options_.name + ": mounted read-only");
  failure_.check_failed();
}

void Disk::require_resizable() const {
  if (resizable_) return;
  core::fail_errno(EOPNOTSUPP, options_.name + ": a version 2 image with snapshots keeps its size");
}

std::uint64_t Disk::allocated_bytes() const {
  const std::optional<std::uint64_t> bytes = file_.allocated_bytes();
  if (bytes) return *bytes - std::min(*bytes, space_.set_aside_behind(file_.size()));
  return options_.read_only ? file_.size() : space_.in_use() << geometry_.cluster_bits;
}

core::ErrorCode Disk::failure() const {
  const core::ErrorCode failure = failure_.code();
  return failure ? failure : assembler_.hindrance();
}

std::uint64_t Disk::size_max() const {
  const std::uint64_t by_l1 = l1_table_bytes_max / 8 * geometry_.bytes_per_l2_table();
  return std::min<std::uint64_t>(by_l1, (1ull << 63) - sector_size);
}

core::Awaitable<void> Disk::read(core::DiskOffset at, core::MutableBytes target) {
  if (at.value > size_ || target.size() > size_ - at.value) {
    core::fail(core::Errc::bad_argument, options_.name + ": a read beyond the end of the disk");
  }
  admission_.share_memory();
  const Readers::Ticket ticket = readers_.enter();
  Reading reading;
  std::uint64_t done = 0;
  while (done < target.size()) {
    const GuestOffset from = at + done;
    const std::uint64_t within = geometry_.within_cluster(from);
    const std::uint64_t length = std::min(geometry_.cluster_size() - within, target.size() - done);
    const ByteRange range{within, within + length};
    const core::MutableBytes part = target.subspan(done, length);
    co_await look_up(geometry_.cluster_of(from), range, part, reading);
    done += length;
  }
  co_await reader_.read_all(std::move(reading.pieces));
}

core::Awaitable<void> Disk::look_up(GuestCluster cluster, ByteRange range, core::MutableBytes target,
                                    Reading& reading) {
  for (;;) {
    // What is dirty and what the map says below it are taken at one instant, or a cluster that moves from one to the
    // other meanwhile would be read half old.
    const std::vector<ByteRange> gaps = assembler_.copy_known(cluster, range, target);
    if (gaps.empty()) co_return;
    if (const std::optional<L2Entry> entry = map_.find(cluster)) {
      add_gaps(cluster, *entry, range, gaps, target, reading);
      co_return;
    }
    co_await map_.load(cluster);
  }
}

void Disk::add_gaps(GuestCluster cluster, L2Entry entry, ByteRange range, const std::vector<ByteRange>& gaps,
                    core::MutableBytes target, Reading& reading) {
  for (const ByteRange& gap : gaps) {
    const core::MutableBytes part = target.subspan(gap.begin - range.begin, gap.length());
    reading.pieces.push_back({geometry_.start_of(cluster) + gap.begin, entry, part});
  }
  const bool put_together = gaps.front() != range;
  if (!put_together) return;
  const Placement placement = decode_l2_entry(entry, geometry_, version_);
  if (const auto* standard = std::get_if<StandardCluster>(&placement)) {
    reading.holds.emplace_back(readers_, standard->at);
  } else if (const auto* mixed = std::get_if<MixedCluster>(&placement)) {
    reading.holds.emplace_back(readers_, mixed->at);
  }
}

core::Awaitable<void> Disk::write(core::DiskOffset at, core::SharedBytes payload) {
  require_writable();
  if (at.value > size_max() || payload.size() > size_max() - at.value) {
    core::fail(core::Errc::image_too_small, options_.name + ": the image cannot hold a disk that large");
  }
  ++changes_;
  const ChangeGate::Pass changing = co_await gate_.enter();
  co_await file_.retry();
  if (at.value + payload.size() > size_) co_await grow(at.value + payload.size());
  std::uint64_t done = 0;
  while (done < payload.size()) {
    co_await admission_.admit(size_);
    const GuestOffset from = at + done;
    const std::uint64_t within = geometry_.within_cluster(from);
    const std::uint64_t length = std::min<std::uint64_t>(geometry_.cluster_size() - within, payload.size() - done);
    assembler_.write(geometry_.cluster_of(from), within, payload.slice(done, length));
    done += length;
  }
}

core::Awaitable<void> Disk::zero(core::DiskOffset at, std::uint64_t length) {
  require_writable();
  ++changes_;
  const ChangeGate::Pass changing = co_await gate_.enter();
  if (at.value >= size_) co_return;
  const GuestOffset end = at + std::min(length, size_ - at.value);
  co_await zero_range(at, end, Zeros::kept);
}

core::Awaitable<void> Disk::zero_range(GuestOffset begin, GuestOffset end, Zeros zeros) {
  const std::uint64_t cluster_size = geometry_.cluster_size();
  while (begin < end) {
    const GuestCluster cluster = geometry_.cluster_of(begin);
    const std::uint64_t within = geometry_.within_cluster(begin);
    const std::uint64_t length = std::min(cluster_size - within, end - begin);
    co_await commit_.wait_for_room();
    // The part of the last cluster that lies beyond the disk's end belongs to nobody.
    const bool reaches_cluster_end = length == cluster_size || (begin + length == end && end.value >= size_);
    if (within == 0 && reaches_cluster_end) {
      const GuestCluster next = geometry_.raw_data ? cluster : holes_.end_of_nothing(cluster, end);
      if (next > cluster) {
        begin = std::min(end, geometry_.start_of(next));
        continue;
      }
      co_await zero_cluster(cluster, zeros);
    } else {
      const ByteRange part{within, within + length};
      co_await zero_part(cluster, part);
    }
    begin = begin + length;
  }
}

core::Awaitable<void> Disk::zero_part(GuestCluster cluster, ByteRange range) {
  co_await admission_.admit(size_);
  if (!assembler_.holds(cluster)) {
    const Readers::Ticket ticket = readers_.enter();
    const L2Entry entry = co_await map_.entry_of(cluster);
    const bool is_nothing = entry == l2_entry_unallocated && !backing_.covers(geometry_.start_of(cluster));
    const bool is_zero = is_nothing || entry == encode_zero_entry(geometry_);
    if (is_zero && !assembler_.holds(cluster)) co_return;
  }
  assembler_.write_zeros(cluster, range);
}

// Where no entry says it, or somebody reads the data file by itself, or would find there what was discarded before.
core::Awaitable<bool> Disk::takes_bytes_to_zero(GuestCluster cluster) {
  if (version_ < 3) co_return backing_.covers(geometry_.start_of(cluster));
  if (!geometry_.external_data || geometry_.raw_data) co_return geometry_.raw_data;
  const L2Entry entry = co_await map_.entry_of(cluster);
  co_return assembler_.holds(cluster) || has_place(decode_l2_entry(entry, geometry_, version_));
}

core::Awaitable<void> Disk::zero_cluster(GuestCluster cluster, Zeros zeros) {
  const bool covered = backing_.covers(geometry_.start_of(cluster));
  const bool must_say = covered || (zeros == Zeros::kept && version_ >= 3);
  // Then it may become dirty, or get the first entry of a table.
  if (covered || geometry_.external_data) {
    co_await admission_.admit(std::max(size_, geometry_.start_of(cluster + 1).value));
  }
  bool takes_bytes = false;
  if (zeros == Zeros::kept) takes_bytes = co_await takes_bytes_to_zero(cluster);
  if (takes_bytes) {
    assembler_.write_zeros(cluster, {0, geometry_.cluster_size()});
    co_return;
  }
  const L2Entry form = must_say && version_ >= 3 ? encode_zero_entry(geometry_) : l2_entry_unallocated;
  const Readers::Ticket ticket = readers_.enter();
  const L2Entry entry = co_await map_.entry_of(cluster);
  assembler_.forget(cluster);
  if (entry != form && (entry != l2_entry_unallocated || covered)) map_.set(cluster, form);
}

core::Awaitable<void> Disk::resize(std::uint64_t size) {
  require_writable();
  if (size > size_max()) {
    core::fail(core::Errc::image_too_small, options_.name + ": the image cannot hold a disk that large");
  }
  ++changes_;
  const ChangeGate::Pass under_way(resizes_);
  const core::AsyncMutex::Guard alone = co_await resizing_.lock();
  if (size > size_) co_await grow(size);
  if (size < size_) co_await shrink(size);
}

core::Awaitable<void> Disk::grow(std::uint64_t size) {
  require_resizable();
  const core::AsyncMutex::Guard alone = co_await growing_.lock();
  if (size <= size_) co_return;
  // Whatever an earlier owner, a power cut or a longer backing disk has behind the end must not come to light: it is
  // durably gone, or masked, before the header says that the disk is larger.
  const GuestOffset old_end{size_};
  const GuestOffset exposed_end{std::min(size, backing_.size())};
  if (!tail_is_clean_) {
    const GuestOffset end{std::max(size_, tables_.l1_entries * geometry_.bytes_per_l2_table())};
    co_await zero_range(old_end, end, Zeros::cut_off);
  }
  if (old_end < exposed_end) co_await zero_range(old_end, exposed_end, Zeros::kept);
  if (!tail_is_clean_ || old_end < exposed_end) co_await commit_.flush();
  tail_is_clean_ = true;
  const bool larger_l1_table = geometry_.l1_entries(size) > map_.l1_entries();
  if (larger_l1_table) co_await admission_.ensure_space(size);
  if (with_data_) co_await with_data_->resize_data(size_, core::align_up(size, sector_size));
  size_ = size;
  map_.set_disk_size(core::align_up(size, sector_size));
}

core::Awaitable<void> Disk::shrink(std::uint64_t size) {
  require_resizable();
  co_await gate_.close();
  const std::uint64_t old_size = size_;
  const GuestOffset old_end{core::align_up(old_size, geometry_.cluster_size())};
  std::exception_ptr error;
  try {
    co_await zero_range(GuestOffset{size}, old_end, Zeros::cut_off);
    size_ = size;
    if (with_data_) co_await with_data_->resize_data(size, core::align_up(size, sector_size));
    // The old content is durably gone before the header says so: after a power cut in between, growing again finds
    // zeros.
    co_await commit_.flush();
    map_.set_disk_size(core::align_up(size, sector_size));
    map_.drop_tables(geometry_.l1_entries(size));
  } catch (...) {
    error = std::current_exception();
    size_ = old_size;  // what was cut off reads as zeros, and stays part of the disk
  }
  gate_.open();
  if (error) std::rethrow_exception(error);
}

core::Awaitable<void> Disk::flush() {
  failure_.check_failed();
  if (!options_.read_only) co_await commit_.flush();
}

core::Awaitable<std::uint64_t> Disk::next_data(core::DiskOffset at) { return seek(at, Sought::data); }
core::Awaitable<std::uint64_t> Disk::next_hole(core::DiskOffset at) { return seek(at, Sought::hole); }

core::Awaitable<std::uint64_t> Disk::seek(core::DiskOffset at, Sought sought) {
  if (!options_.read_only) co_await assembler_.drain();  // what is zero is known only once it was encoded
  const std::uint64_t found = co_await holes_.seek(at, sought, size_);
  co_return found;
}

}  // namespace qcow2
