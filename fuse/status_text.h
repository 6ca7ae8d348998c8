// What `qcowfs status` prints, from what a mount says of itself. Pure.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>

namespace fuse {

/// For people. Speeds are those since `before`, an earlier report of the same mount, or since the mount began.
std::string status_for_people(const boost::json::value& report, const std::optional<boost::json::value>& before);

/// Prometheus' text format; `mountpoint` becomes a label.
std::string status_for_prometheus(const boost::json::value& report, const std::string& mountpoint);

}  // namespace fuse
