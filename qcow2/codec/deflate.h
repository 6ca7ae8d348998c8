// The format's compression type "zlib": raw deflate, without the zlib wrapper.
#pragma once

#include "qcow2/codec/codec.h"

namespace qcow2 {

/// Writes within a 12-bit window and ends with a final block, so that every reader of the format can inflate
/// it, the ones that do so in small steps included. Reads windows of up to 15 bits.
class Deflate final : public Codec {
 public:
  explicit Deflate(int level) : level_(level) {}
  std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) const override;
  bool decompress(core::Bytes stored, core::MutableBytes plain) const override;

 private:
  int level_;
};

}  // namespace qcow2
