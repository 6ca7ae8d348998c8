// Whether an image has reserved clusters that its file has no bytes for, told from its refcounts.
#pragma once

#include <vector>

#include "qcow2/format/header.h"
#include "qcow2/offline/read_only_file.h"

namespace qcow2 {

/// The refcount blocks in the order of what they count; those that do not exist left out. Throws core::Error.
std::vector<HostOffset> refcount_blocks(const ReadOnlyFile& file, const Header& header);

/// By QEMU's measure: markedly more clusters are counted than the file takes on its file system. Then a standard
/// cluster may lie in a hole of the file. Throws core::Error.
bool reserves_more_than_it_holds(const ReadOnlyFile& file, const Header& header);

}  // namespace qcow2
