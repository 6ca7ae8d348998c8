// The one function of libsystemd that is used, for a program that is linked statically: Debian has no libsystemd.a.
#pragma once

/// As sd_notify(3). `unset_environment` must be 0.
int sd_notify(int unset_environment, const char* state);
