// From the words of -o about backing files to what they mean.
#pragma once

#include "fuse/options.h"
#include "qcow2/backing_search.h"

namespace fuse {

inline qcow2::BackingPolicy backing_policy(const BackingOptions& options, core::DirectIo direct) {
  qcow2::BackingPolicy policy;
  policy.allowed = options.allowed;
  policy.directories = options.dirs;
  policy.direct = direct;
  if (options.format == "raw") policy.unnamed_format = qcow2::ImageFormat::raw;
  if (options.format == "qcow2") policy.unnamed_format = qcow2::ImageFormat::qcow2;
  return policy;
}

}  // namespace fuse
