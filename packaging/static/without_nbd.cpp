// In place of core/nbd: of libnbd's TLS library there is no static one.
#include "core/error.h"
#include "core/nbd/nbd_export.h"

namespace core {

NbdExport open_nbd_export(Engine&, const std::string& uri, Access, std::chrono::seconds) {
  fail(Errc::unsupported_feature,
       uri + ": this qcowfs was built without NBD; the one of the Debian package, or one that you build, has it");
}

}  // namespace core
