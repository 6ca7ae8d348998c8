#include "fuse/status_text.h"

#include <array>
#include <boost/json/object.hpp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace fuse {
namespace {

namespace json = boost::json;

double number_in(const json::value& report, const char* name) { return report.at(name).to_number<double>(); }

[[gnu::format(printf, 1, 2)]] std::string formatted(const char* format, ...) {
  std::array<char, 256> text;
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  return text.data();
}

std::string in_units(double bytes) {
  constexpr std::array units = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return formatted(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

std::string in_time_units(double microseconds) {
  if (microseconds < 1e3) return formatted("%.0f us", microseconds);
  if (microseconds < 1e6) return formatted("%.1f ms", microseconds / 1e3);
  return formatted("%.2f s", microseconds / 1e6);
}

// Where nothing was stored yet there is no ratio.
std::string ratio(const json::value& report) {
  const double stored = number_in(report, "stored-bytes");
  if (stored == 0) return "nothing yet";
  const double encoded = number_in(report, "encoded-bytes");
  return in_units(encoded) + " of the disk as " + in_units(stored) + formatted(", ratio %.2f", encoded / stored);
}

std::string hits(const json::value& report) {
  const double found = number_in(report, "cache-hits");
  const double looked = found + number_in(report, "cache-misses");
  if (looked == 0) return "no compressed cluster read yet";
  return formatted("%.1f %% of %.0f reads of compressed clusters", 100 * found / looked, looked);
}

std::string request_rows(const json::value& report, const std::optional<json::value>& before) {
  const double seconds = number_in(report, "uptime-seconds") - (before ? number_in(*before, "uptime-seconds") : 0);
  std::string text = formatted("%-10s %10s %12s %10s %9s %9s %9s %7s\n", "requests", "number", "bytes", "MiB/s", "p50",
                               "p99", "p999", "errors");
  for (const auto& [name, row] : report.at("requests").as_object()) {
    const double count = number_in(row, "count");
    if (count == 0) continue;
    const double bytes = number_in(row, "bytes");
    const double earlier = before ? number_in(before->at("requests").at(name), "bytes") : 0;
    const double speed = seconds > 0 ? (bytes - earlier) / (1 << 20) / seconds : 0;
    const json::value& latency = row.at("latency-us");
    text +=
        formatted("  %-8s %10.0f %12s %10s %9s %9s %9s %7.0f\n", std::string(name).c_str(), count,
                  bytes == 0 ? "" : in_units(bytes).c_str(), bytes == 0 ? "" : formatted("%.1f", speed).c_str(),
                  in_time_units(number_in(latency, "p50")).c_str(), in_time_units(number_in(latency, "p99")).c_str(),
                  in_time_units(number_in(latency, "p999")).c_str(), number_in(row, "errors"));
  }
  return text;
}

struct Metric {
  const char* field;
  const char* name;
  const char* type;
  const char* help;
};
constexpr Metric metrics[] = {
    {"uptime-seconds", "qcowfs_uptime_seconds", "gauge", "Seconds since the mount began."},
    {"disk-bytes", "qcowfs_disk_bytes", "gauge", "Size of the disk."},
    {"allocated-bytes", "qcowfs_allocated_bytes", "gauge", "What the image takes on the host."},
    {"dirty-bytes", "qcowfs_dirty_bytes", "gauge", "Memory held for what is not in the image yet."},
    {"encoded-bytes", "qcowfs_encoded_bytes_total", "counter",
     "Bytes of the disk that were given a place in the image."},
    {"stored-bytes", "qcowfs_stored_bytes_total", "counter", "What those took in the image."},
    {"commits", "qcowfs_commits_total", "counter", "Batches of changes made durable."},
    {"cache-hits", "qcowfs_cache_hits_total", "counter", "Compressed clusters that were in memory when read."},
    {"cache-misses", "qcowfs_cache_misses_total", "counter", "Compressed clusters that were decompressed."},
    {"cache-size", "qcowfs_cache_size_bytes", "gauge", "The setting cache_size."},
    {"workers", "qcowfs_workers", "gauge", "Threads that compress."},
    {"moved-bytes", "qcowfs_moved_bytes_total", "counter", "Bytes that cleaning and compaction have copied."},
    {"given-back-bytes", "qcowfs_given_back_bytes_total", "counter",
     "Bytes of the image's file given back to the host."},
    {"commit-interval-seconds", "qcowfs_commit_interval_seconds", "gauge", "The setting commit_interval."},
};

std::string heading(const char* name, const char* type, const char* help) {
  return std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

std::string label_value(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '\\' || letter == '"') escaped += '\\';
    escaped += letter == '\n' ? std::string("\\n") : std::string(1, letter);
  }
  return escaped;
}

// Whole numbers without an exponent, however large.
std::string sample(const std::string& name, const std::string& labels, double value) {
  const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
  return name + "{" + labels + "} " + formatted(whole ? "%.0f" : "%.9g", value) + "\n";
}

std::string request_samples(const json::value& report, const std::string& label) {
  const json::object& requests = report.at("requests").as_object();
  constexpr Metric counters[] = {
      {"count", "qcowfs_requests_total", "counter", "Requests of the kernel that were answered."},
      {"errors", "qcowfs_request_errors_total", "counter", "Those that failed here."},
      {"bytes", "qcowfs_request_bytes_total", "counter", "Bytes read or written."},
  };
  std::string text;
  for (const Metric& metric : counters) {
    text += heading(metric.name, metric.type, metric.help);
    for (const auto& [kind, row] : requests) {
      text += sample(metric.name, label + ",kind=\"" + std::string(kind) + "\"", number_in(row, metric.field));
    }
  }
  text += heading("qcowfs_request_seconds", "summary", "How long requests took.");
  constexpr std::array<std::array<const char*, 2>, 3> quantiles = {
      {{"p50", "0.5"}, {"p99", "0.99"}, {"p999", "0.999"}}};
  for (const auto& [kind, row] : requests) {
    const std::string labels = label + ",kind=\"" + std::string(kind) + "\"";
    for (const auto& [field, quantile] : quantiles) {
      text += sample("qcowfs_request_seconds", labels + ",quantile=\"" + quantile + "\"",
                     number_in(row.at("latency-us"), field) / 1e6);
    }
    text += sample("qcowfs_request_seconds_count", labels, number_in(row, "count"));
  }
  return text;
}

}  // namespace

std::string status_for_people(const json::value& report, const std::optional<json::value>& before) {
  const std::string failure(report.at("failure").as_string());
  std::string text;
  text += "disk       " + in_units(number_in(report, "disk-bytes")) + "; the image takes " +
          in_units(number_in(report, "allocated-bytes")) + "\n";
  text += "mounted    " + formatted("%.0f s", number_in(report, "uptime-seconds")) + "\n";
  text += "in memory  " + in_units(number_in(report, "dirty-bytes")) + " not in the image yet\n";
  text += "stored     " + ratio(report) + "\n";
  text += "commits    " +
          formatted("%.0f, every %.0f s\n", number_in(report, "commits"), number_in(report, "commit-interval-seconds"));
  text += "cache      " + in_units(number_in(report, "cache-size")) + "; in it: " + hits(report) + "\n";
  text += "cleaning   " + std::string(report.at("cleaning").as_string()) +
          (report.at("compacting").as_bool() ? ", being compacted" : "") + "; moved " +
          in_units(number_in(report, "moved-bytes")) + ", gave back " +
          in_units(number_in(report, "given-back-bytes")) + "\n";
  if (!failure.empty()) text += "FAILURE    " + failure + "\n";
  return text + request_rows(report, before);
}

std::string status_for_prometheus(const json::value& report, const std::string& mountpoint) {
  const std::string label = "mountpoint=\"" + label_value(mountpoint) + "\"";
  std::string text;
  for (const Metric& metric : metrics) {
    text += heading(metric.name, metric.type, metric.help);
    text += sample(metric.name, label, number_in(report, metric.field));
  }
  text += heading("qcowfs_failed", "gauge", "1 where something written could not be stored.");
  text += sample("qcowfs_failed", label, report.at("failure").as_string().empty() ? 0 : 1);
  return text + request_samples(report, label);
}

}  // namespace fuse
