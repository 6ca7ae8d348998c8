#include "fuse/shown_files.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/disk_range.h"
#include "fuse/partition_table.h"

namespace fuse {
namespace {

constexpr std::size_t partitions_max = 256;  // of one disk, as with the kernel: a table may name thousands

constexpr std::size_t named_max = 32;  // in a message

std::string names_of(const std::vector<Partition>& partitions) {
  std::string names;
  for (std::size_t i = 0; i < partitions.size() && i < named_max; ++i) {
    names += (i == 0 ? "" : ", ") + std::to_string(partitions[i].number);
  }
  return partitions.size() <= named_max ? names : names + " and more";
}

core::Awaitable<std::vector<Partition>> all_partitions(core::GuestDisk& disk, const std::string& image) {
  std::optional<std::vector<Partition>> found = co_await read_partition_table(disk);
  if (!found) {
    core::fail(core::Errc::bad_argument, image + ": the disk has no partition table (MBR or GPT), or a damaged one; " +
                                             "mount it without -o partitions to see all of it");
  }
  if (found->empty()) core::fail(core::Errc::bad_argument, image + ": the disk's partition table has no partitions");
  co_return std::move(*found);
}

void refuse_too_many(const std::vector<Partition>& partitions, const std::string& image) {
  if (partitions.size() <= partitions_max) return;
  core::fail(core::Errc::bad_argument, image + ": the disk has " + std::to_string(partitions.size()) +
                                           " partitions, and at most " + std::to_string(partitions_max) +
                                           " are shown together; show one by -o partition=N");
}

void refuse_overlap(std::vector<Partition> partitions, const std::string& image) {
  const auto by_start = [](const Partition& left, const Partition& right) { return left.start < right.start; };
  std::sort(partitions.begin(), partitions.end(), by_start);
  for (std::size_t next = 1; next < partitions.size(); ++next) {
    const Partition& left = partitions[next - 1];
    const Partition& right = partitions[next];
    if (left.end() <= right.start) continue;
    core::fail(core::Errc::bad_argument,
               image + ": partitions " + names_of({left, right}) +
                   " overlap; add -o ro, or show one by -o partition=" + std::to_string(left.number));
  }
}

std::vector<Partition> only(unsigned number, const std::vector<Partition>& partitions, const std::string& image) {
  for (const Partition& partition : partitions) {
    if (partition.number == number) return {partition};
  }
  core::fail(core::Errc::bad_argument,
             image + ": the disk has no partition " + std::to_string(number) + ", only " + names_of(partitions));
}

}  // namespace

core::Awaitable<ShownFiles> choose_files(core::GuestDisk& disk, const MountPlan& plan) {
  ShownFiles shown;
  if (!plan.partitions.any()) {
    shown.files.push_back({plan.disk_name, &disk, SizeChange::allowed});
    co_return shown;
  }
  std::vector<Partition> partitions = co_await all_partitions(disk, plan.image);
  if (plan.partitions.one) {
    partitions = only(*plan.partitions.one, partitions, plan.image);
  } else {
    refuse_too_many(partitions, plan.image);
    if (!disk.read_only()) refuse_overlap(partitions, plan.image);
  }
  for (const Partition& partition : partitions) {
    auto range = std::make_unique<core::DiskRange>(disk, partition.start, partition.size);
    shown.files.push_back({"p" + std::to_string(partition.number), range.get(), SizeChange::refused});
    shown.partitions.push_back(std::move(range));
  }
  co_return shown;
}

}  // namespace fuse
