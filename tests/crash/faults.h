// What the image does when its disk fails: each operation of a small history in its turn.
#pragma once

#include "tests/crash/judge.h"

namespace crash {

/// Runs the seed's small history once per operation of each kind that a disk can refuse, that operation failing. The
/// error must be told, stay told where what is in the file is unknown, and leave every crash state as promised. So it
/// must be where the way to the disk is cut at any operation. Lack of space: told, and forgotten once there is space
/// again, with nothing lost.
void fail_everything(std::uint64_t seed, const Options& options, FragmentDecoder& decoder, Tally& tally);

}  // namespace crash
