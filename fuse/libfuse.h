// The one place that says which of libfuse's interfaces we speak.
#pragma once

#define FUSE_USE_VERSION 312

#include <fuse3/fuse_lowlevel.h>
