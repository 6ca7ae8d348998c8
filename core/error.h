// One error type for the whole program. Pure code returns Result<T>; coroutines throw Error; .value() is the bridge.
#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <boost/system/system_error.hpp>
#include <string>

namespace core {

/// What can go wrong that errno has no word for. Errors of the operating system keep their errno.
enum class Errc {
  corrupt_image = 1,    ///< the image contradicts itself
  unsupported_feature,  ///< a valid image that this program does not serve
  image_locked,         ///< another program has the image open
  device_failed,        ///< an earlier write or barrier failed; nothing after it is trusted
  bad_argument,         ///< the caller's fault
  read_only,            ///< the disk was opened read-only
  image_too_small,      ///< the offset lies beyond what the format can address
};

const boost::system::error_category& error_category();
boost::system::error_code make_error_code(Errc code);

using ErrorCode = boost::system::error_code;
using Error = boost::system::system_error;
template <class T>
using Result = boost::system::result<T>;

/// Throws Error with a sentence that says which thing, what is wrong and what to do.
[[noreturn]] void fail(Errc code, const std::string& sentence);
[[noreturn]] void fail(const ErrorCode& code, const std::string& sentence);
/// The same for an errno value.
[[noreturn]] void fail_errno(int error_number, const std::string& sentence);

/// The sentence given to fail() alone, or the category's text where there was none: one line for a person.
std::string describe(const std::exception& error);

}  // namespace core

template <>
struct boost::system::is_error_code_enum<core::Errc> : std::true_type {};
