// From a fuzzer's bytes to a damaged image: a sample, and what is done to its tables.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include "tests/fuzz/sample_images.h"

namespace fuzz {

struct MutatedImage {
  const SampleImage* sample = nullptr;
  Bytes content;
};

/// Takes the choice of the sample and up to sixteen changes from `data`: entries of tables set to what hurts, bytes,
/// the file's length.
MutatedImage mutate(FuzzedDataProvider& data);

}  // namespace fuzz
