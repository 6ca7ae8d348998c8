// `qcowfs snapshot`: the internal snapshots of an image that is not mounted.
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <ctime>
#include <exception>
#include <string>

#include "core/error.h"
#include "fuse/snapshot_json.h"
#include "fuse/standard_streams.h"
#include "fuse/verbs.h"
#include "fuse/waiting.h"
#include "qcow2/info.h"
#include "qcow2/offline/snapshot_changes.h"

namespace fuse {
namespace {

std::string when(const qcow2::Snapshot& snapshot) {
  const std::time_t seconds = snapshot.seconds;
  std::tm parts{};
  char text[32] = "";
  if (::localtime_r(&seconds, &parts) != nullptr) std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

std::string for_people(const std::vector<qcow2::Snapshot>& snapshots) {
  std::string text;
  for (const qcow2::Snapshot& snapshot : snapshots) {
    std::string id = snapshot.id;
    id.resize(std::max<std::size_t>(id.size() + 1, 8), ' ');
    text += id + when(snapshot) + "  " + snapshot.name + "\n";
  }
  return text;
}

std::string for_programs(const std::vector<qcow2::Snapshot>& snapshots) {
  boost::json::array list;
  for (const qcow2::Snapshot& snapshot : snapshots) list.push_back(snapshot_json(snapshot));
  return boost::json::serialize(list) + "\n";
}

void list(const SnapshotOptions& options) {
  const std::vector<qcow2::Snapshot> snapshots = qcow2::read_info(options.image).snapshots;
  print(options.json ? for_programs(snapshots) : for_people(snapshots));
}

qcow2::SnapshotTime now() {
  std::timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {static_cast<std::uint32_t>(time.tv_sec), static_cast<std::uint32_t>(time.tv_nsec)};
}

void change(const SnapshotOptions& options) {
  const auto writer = qcow2::open_image_writer(options.image);  // from here on nobody else changes it
  const qcow2::ReadOnlyFile file(options.image);
  if (options.action == SnapshotAction::create) qcow2::create_snapshot(file, *writer, options.name, now());
  if (options.action == SnapshotAction::remove) qcow2::delete_snapshot(file, *writer, options.name);
  if (options.action == SnapshotAction::apply) qcow2::apply_snapshot(file, *writer, options.name);
}

}  // namespace

int run_snapshot(const SnapshotOptions& options) {
  try {
    if (options.action == SnapshotAction::list) {
      list(options);
    } else {
      const Waiting waiting("changing " + options.image);
      change(options);
    }
    return exit_success;
  } catch (const std::exception& error) {
    complain(core::describe(error));
    return exit_failure;
  }
}

}  // namespace fuse
