// From the words of -o about other files to what they mean.
#pragma once

#include "fuse/options.h"
#include "qcow2/named_file_search.h"

namespace fuse {

inline qcow2::NamedFilePolicy named_file_policy(const NamedFileOptions& options, core::DirectIo direct) {
  qcow2::NamedFilePolicy policy;
  policy.backing = options.allowed;
  policy.data_file = options.data_file;
  policy.directories = options.dirs;
  policy.direct = direct;
  if (options.format == "raw") policy.unnamed_format = qcow2::ImageFormat::raw;
  if (options.format == "qcow2") policy.unnamed_format = qcow2::ImageFormat::qcow2;
  return policy;
}

}  // namespace fuse
