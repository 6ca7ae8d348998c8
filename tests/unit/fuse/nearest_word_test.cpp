// Which word somebody meant: near ones are found, far ones not guessed.
#include "fuse/nearest_word.h"

#include <gtest/gtest.h>

#include <array>

namespace {

constexpr std::array<std::string_view, 5> known = {"check", "create", "convert", "map", "allow_other"};

TEST(NearestWord, OneSlipIsForgiven) {
  EXPECT_EQ(fuse::nearest_word("chek", known), "check");
  EXPECT_EQ(fuse::nearest_word("cretae", known), "create");
  EXPECT_EQ(fuse::nearest_word("convertt", known), "convert");
  EXPECT_EQ(fuse::nearest_word("nap", known), "map");
  EXPECT_EQ(fuse::nearest_word("allowother", known), "allow_other");
  EXPECT_EQ(fuse::nearest_word("alow_ohter", known), "allow_other");
}

TEST(NearestWord, AnotherWordIsNot) {
  for (const std::string_view word : {"", "m", "ma", "mnt", "disk.qcow2", "chair", "verify"}) {
    EXPECT_EQ(fuse::nearest_word(word, known), "") << word;
  }
  EXPECT_EQ(fuse::did_you_mean("verify", known), "");
  EXPECT_EQ(fuse::did_you_mean("chek", known), "; did you mean check?");
}

}  // namespace
