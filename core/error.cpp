#include "core/error.h"

#include <cerrno>

namespace core {
namespace {

class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "qcowfs"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::corrupt_image: return "the image is corrupt";
      case Errc::unsupported_feature: return "the image uses a feature that is not supported";
      case Errc::image_locked: return "the image is in use by another program";
      case Errc::device_failed: return "an earlier write to the image failed";
      case Errc::bad_argument: return "bad argument";
      case Errc::read_only: return "the disk is read-only";
      case Errc::image_too_small: return "beyond what the image can address";
    }
    return "unknown error";
  }
};

// An Error whose sentence can be told apart from the text that system_error appends to it.
class SentenceError final : public Error {
 public:
  SentenceError(const ErrorCode& code, const std::string& sentence) : Error(code, sentence), sentence_(sentence) {}
  const std::string& sentence() const { return sentence_; }

 private:
  std::string sentence_;
};

// Where the operating system's own words leave people without a next step.
const char* what_to_do(int error_number) {
  switch (error_number) {
    case ENOSPC: return "; free some space there, then try again";
    case EDQUOT: return "; free some of your space there or have your quota raised, then try again";
    case EROFS: return "; it can be used read-only (-r)";
    default: return "";
  }
}

}  // namespace

const boost::system::error_category& error_category() {
  static const Category category;
  return category;
}

ErrorCode make_error_code(Errc code) { return {static_cast<int>(code), error_category()}; }

void fail(const ErrorCode& code, const std::string& sentence) { throw SentenceError(code, sentence); }

void fail(Errc code, const std::string& sentence) { fail(make_error_code(code), sentence); }

void fail_errno(int error_number, const std::string& sentence) {
  const ErrorCode code(error_number, boost::system::system_category());
  fail(code, sentence + ": " + code.message() + what_to_do(error_number));
}

std::string describe(const std::exception& error) {
  if (const auto* with_sentence = dynamic_cast<const SentenceError*>(&error)) return with_sentence->sentence();
  return error.what();
}

}  // namespace core
