// The helper does for its daemon what it was told before it was sealed, and nothing else.
#include "fuse/sandbox/privileged_helper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"

namespace {

using fuse::OwnUnmount;

class PrivilegedHelperTest : public testing::Test {
 protected:
  PrivilegedHelperTest() {
    std::string name = testing::TempDir() + "helper-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~PrivilegedHelperTest() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name) const {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << "here";
    return path;
  }

  std::string folder_;
  fuse::PrivilegedHelper helper_;
};

TEST_F(PrivilegedHelperTest, RemovesTheOneFile) {
  const std::string its = file("its");
  helper_.remove_file();
  EXPECT_TRUE(std::filesystem::exists(its)) << "it was not told of it yet";
  helper_.keep_file(its);
  helper_.remove_file();
  EXPECT_FALSE(std::filesystem::exists(its));
}

TEST_F(PrivilegedHelperTest, IsDeafOnceSealed) {
  const std::string its = file("its");
  const std::string another = file("another");
  helper_.keep_file(its);
  helper_.seal();
  EXPECT_THROW(helper_.keep_file(another), core::Error);
  EXPECT_THROW(helper_.keep_mount({"/proc", "0:1", {}}), core::Error);
  helper_.remove_file();
  EXPECT_FALSE(std::filesystem::exists(its));
  EXPECT_TRUE(std::filesystem::exists(another));
}

TEST_F(PrivilegedHelperTest, TakesAwayNoOtherMount) {
  EXPECT_EQ(helper_.detach().outcome, OwnUnmount::foreign);  // it knows of none
  helper_.keep_mount({"/proc", "no such device", {}});
  EXPECT_EQ(helper_.unmount_when_idle().outcome, OwnUnmount::foreign);
  EXPECT_EQ(helper_.store_and_unmount().outcome, OwnUnmount::foreign);
  EXPECT_EQ(helper_.detach().outcome, OwnUnmount::foreign);
  EXPECT_TRUE(std::filesystem::exists("/proc/self"));
}

TEST_F(PrivilegedHelperTest, TakesMorePathsThanFitOneMessage) {
  const std::string path(4000, 'x');
  helper_.keep_mount({"/proc", "no such device", std::vector<std::string>(2000, path)});
  EXPECT_EQ(helper_.detach().outcome, OwnUnmount::foreign);
}

TEST_F(PrivilegedHelperTest, TakesAPathThatFitsNoMessageAsAnError) {
  EXPECT_THROW(helper_.keep_file(std::string(1 << 17, 'x')), core::Error);
  EXPECT_EQ(helper_.detach().outcome, OwnUnmount::foreign) << "it lives on";
}

}  // namespace
