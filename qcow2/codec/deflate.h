// The format's compression type "zlib": raw deflate, without the zlib wrapper.
#pragma once

#include "qcow2/codec/codec.h"

namespace qcow2 {

/// Writes within the window and ends with a final block: in a narrow one every reader of the format can inflate it, the
/// ones that do so in small steps included. Reads windows of up to 15 bits.
class Deflate final : public Codec {
 public:
  Deflate(int level, Window window) : level_(level), window_(window) {}
  std::optional<std::size_t> compress(core::Bytes plain, core::MutableBytes target) const override;
  bool decompress(core::Bytes stored, core::MutableBytes plain) const override;
  std::optional<std::size_t> measure(core::Bytes stored, core::MutableBytes plain) const override;

 private:
  int level_;
  Window window_;
};

}  // namespace qcow2
