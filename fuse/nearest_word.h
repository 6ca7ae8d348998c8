// What somebody meant who mistyped a word.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fuse {

/// The one of `known` that is least far from `word`, if it is near enough to have been meant; empty otherwise. Pure.
std::string nearest_word(std::string_view word, std::span<const std::string_view> known);

/// "; did you mean NEAREST?", or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

}  // namespace fuse
