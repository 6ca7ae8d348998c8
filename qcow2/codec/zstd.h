// The format's compression type "zstd": one or more zstd frames.
#pragma once

#include "qcow2/codec/codec.h"

namespace qcow2 {

/// Writes one frame that states its content's size. Reads any sequence of frames, of any window, in constant
/// memory.
class Zstd final : public Codec {
 public:
  explicit Zstd(int level);
  std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) const override;
  bool decompress(core::Bytes stored, core::MutableBytes plain) const override;
  std::optional<std::size_t> measure(core::Bytes stored, core::MutableBytes plain) const override;

 private:
  int zstd_level_;
};

}  // namespace qcow2
