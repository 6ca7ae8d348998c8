// The way to an image that an NBD server exports: the one header of this room that others include.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "core/block_file.h"
#include "core/direct_file.h"
#include "core/engine.h"

namespace core {

/// An export that is open.
struct NbdExport {
  std::unique_ptr<BlockFile> file;
  std::string name;  ///< of the export, as the server knows it; may be empty
};

/// Whether `image` is meant as an NBD URI: nbd://, nbds://, nbd+unix:// and their like.
inline bool is_nbd_uri(const std::string& image) {
  const std::size_t end = image.find("://");
  if (end == std::string::npos) return false;
  const std::string scheme = image.substr(0, std::min(end, image.find('+')));
  return scheme == "nbd" || scheme == "nbds";
}

/// Connects, and holds up the strand until that is done or `timeout` over. The file has the size of the export, for
/// good: see NbdFile. Connections are never renewed. A request that is not answered within `timeout` ends them, and all
/// that is asked of the file then fails with EIO.
/// Errors   Throws core::Error whose sentence names the URI: it is none, nobody answers, there is no such export, or it
///          cannot be written to safely as `access` asks.
NbdExport open_nbd_export(Engine& engine, const std::string& uri, Access access, std::chrono::seconds timeout);

}  // namespace core
