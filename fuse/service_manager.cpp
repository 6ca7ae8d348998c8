#include "fuse/service_manager.h"

#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <string>

namespace fuse {

// A manager that does not listen finds out by its own time limit: nothing is made of an error here.

void tell_service_manager_ready() {
  const std::string state = "READY=1\nMAINPID=" + std::to_string(::getpid());
  ::sd_notify(0, state.c_str());
}

void tell_service_manager_stopping() { ::sd_notify(0, "STOPPING=1"); }

}  // namespace fuse
