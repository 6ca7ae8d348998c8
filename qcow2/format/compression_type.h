// The two ways in which a compressed cluster may be compressed.
#pragma once

#include <cstdint>

namespace qcow2 {

/// As stored in the header: byte 104.
enum class CompressionType : std::uint8_t { zlib = 0, zstd = 1 };

}  // namespace qcow2
