// CHECK guards our own logic and stays on in release builds; bytes from an image or a user never reach one.
#pragma once

namespace core {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace core

#define CHECK(condition) ((condition) ? static_cast<void>(0) : ::core::check_failed(#condition, __FILE__, __LINE__))
