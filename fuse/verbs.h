// The commands. Each does its work, prints one line on stderr where it fails, and returns the exit status.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

#include "fuse/options.h"

namespace fuse {

int run_mount(const MountOptions& options);
int run_umount(const UmountOptions& options);
int run_status(const StatusOptions& options);
int run_create(const CreateOptions& options);
int run_info(const InfoOptions& options);
int run_check(const CheckOptions& options);
int run_compact(const CompactOptions& options);
int run_convert(const ConvertOptions& options);
int run_compare(const CompareOptions& options);
int run_map(const MapOptions& options);
int run_snapshot(const SnapshotOptions& options);

/// The one line. On a terminal it takes the place of what was drawn there to pass the time.
inline void complain(const std::string& sentence) {
  const char* const clear_line = ::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
  std::fprintf(stderr, "%sqcowfs: %s\n", clear_line, sentence.c_str());
}

}  // namespace fuse
