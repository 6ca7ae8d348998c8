#include "fuse/status_report.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace fuse {
namespace {

namespace json = boost::json;

double microseconds(LatencyHistogram::Duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

json::object describe(const Statistics::Requests& requests) {
  json::object latency;
  latency["p50"] = microseconds(requests.latency.quantile(0.5));
  latency["p99"] = microseconds(requests.latency.quantile(0.99));
  latency["p999"] = microseconds(requests.latency.quantile(0.999));
  json::object object;
  object["count"] = requests.latency.count();
  object["errors"] = requests.errors;
  object["bytes"] = requests.bytes;
  object["latency-us"] = std::move(latency);
  return object;
}

}  // namespace

std::string status_json(const core::GuestDisk& disk, const core::DiskStatus& status, const Statistics& statistics) {
  json::object requests;
  for (std::size_t index = 0; index < request_kinds; ++index) {
    const auto kind = static_cast<RequestKind>(index);
    requests[std::string(name_of(kind))] = describe(statistics.of(kind));
  }
  json::object report;
  report["uptime-seconds"] = statistics.uptime().count();
  report["disk-bytes"] = disk.size();
  report["allocated-bytes"] = disk.allocated_bytes();
  report["dirty-bytes"] = status.dirty_bytes;
  report["encoded-bytes"] = status.encoded_bytes;
  report["stored-bytes"] = status.stored_bytes;
  report["commits"] = status.commits;
  report["cache-hits"] = status.cache_hits;
  report["cache-misses"] = status.cache_misses;
  report["cache-size"] = status.cache_size;
  report["commit-interval-seconds"] = static_cast<double>(status.commit_interval_ms) / 1000;
  report["workers"] = status.workers;
  report["cleaning"] = core::name_of(status.cleaning);
  report["compacting"] = status.compacting;
  report["moved-bytes"] = status.moved_bytes;
  report["given-back-bytes"] = status.given_back_bytes;
  report["failure"] = disk.failure() ? disk.failure().message() : "";
  report["requests"] = std::move(requests);
  return json::serialize(report);
}

}  // namespace fuse
