// What is to be seen under the mount point.
#include "fuse/tree.h"

#include <gtest/gtest.h>

#include "tests/support/memory_disk.h"

namespace {

constexpr std::uint64_t disk_size = 3 << 20;

struct Mounted {
  explicit Mounted(fuse::MountShape shape, mode_t permissions = 0640)
      : tree(shape, {{"disk.raw", &disk}}, looks(permissions)) {}

  static fuse::Appearance looks(mode_t permissions) {
    fuse::Appearance looks;
    looks.permissions = permissions;
    looks.uid = 7;
    looks.gid = 8;
    looks.modified.tv_sec = 1000;
    return looks;
  }

  test::MemoryDisk disk{disk_size, 65536};
  fuse::Tree tree;
};

TEST(Tree, ADirectoryHoldsTheDiskUnderItsName) {
  const Mounted mounted(fuse::MountShape::directory);
  const auto found = mounted.tree.find(FUSE_ROOT_ID, "disk.raw");
  ASSERT_TRUE(found);
  EXPECT_TRUE(mounted.tree.file_at(*found));
  EXPECT_FALSE(mounted.tree.file_at(FUSE_ROOT_ID));
  EXPECT_FALSE(mounted.tree.find(FUSE_ROOT_ID, "disk"));
  EXPECT_FALSE(mounted.tree.find(*found, "disk.raw"));
  EXPECT_TRUE(S_ISDIR(mounted.tree.attributes(FUSE_ROOT_ID)->st_mode));
}

TEST(Tree, AFileMountIsTheDiskItself) {
  const Mounted mounted(fuse::MountShape::file);
  EXPECT_TRUE(mounted.tree.file_at(FUSE_ROOT_ID));
  EXPECT_FALSE(mounted.tree.find(FUSE_ROOT_ID, "disk.raw"));
  EXPECT_TRUE(S_ISREG(mounted.tree.attributes(FUSE_ROOT_ID)->st_mode));
  EXPECT_FALSE(mounted.tree.attributes(FUSE_ROOT_ID + 1));
}

TEST(Tree, TheDisksAttributesAreTheDisks) {
  const Mounted mounted(fuse::MountShape::file);
  const struct stat facts = *mounted.tree.attributes(FUSE_ROOT_ID);
  EXPECT_EQ(facts.st_mode, S_IFREG | 0640u);
  EXPECT_EQ(facts.st_size, static_cast<off_t>(disk_size));
  EXPECT_EQ(facts.st_blksize, 65536);
  EXPECT_EQ(facts.st_blocks, 0);
  EXPECT_EQ(facts.st_uid, 7u);
  EXPECT_EQ(facts.st_gid, 8u);
  EXPECT_EQ(facts.st_mtim.tv_sec, 1000);
}

TEST(Tree, FilesDoNotShareTheirTimes) {
  test::MemoryDisk first(disk_size);
  test::MemoryDisk second(2 * disk_size);
  fuse::Tree tree(fuse::MountShape::directory, {{"p1", &first}, {"p2", &second}}, Mounted::looks(0600));
  const fuse_ino_t inode = *tree.find(FUSE_ROOT_ID, "p2");
  EXPECT_EQ(tree.attributes(inode)->st_size, static_cast<off_t>(2 * disk_size));
  tree.touch(inode);
  EXPECT_GT(tree.attributes(inode)->st_mtim.tv_sec, 1000);
  EXPECT_EQ(tree.attributes(*tree.find(FUSE_ROOT_ID, "p1"))->st_mtim.tv_sec, 1000);
  EXPECT_FALSE(tree.find(FUSE_ROOT_ID, "p3"));
  EXPECT_FALSE(tree.attributes(inode + 1));
}

TEST(Tree, WhoMayReadTheDiskMayEnterItsDirectory) {
  const auto directory_mode = [](mode_t disk_mode) {
    return Mounted(fuse::MountShape::directory, disk_mode).tree.attributes(FUSE_ROOT_ID)->st_mode & 07777;
  };
  EXPECT_EQ(directory_mode(0600), 0500u);
  EXPECT_EQ(directory_mode(0640), 0550u);
  EXPECT_EQ(directory_mode(0444), 0555u);
}

TEST(Tree, WritingMovesTheTimesAndNothingElse) {
  Mounted mounted(fuse::MountShape::file);
  mounted.tree.touch(FUSE_ROOT_ID);
  const struct stat facts = *mounted.tree.attributes(FUSE_ROOT_ID);
  EXPECT_GT(facts.st_mtim.tv_sec, 1000);
  EXPECT_GT(facts.st_ctim.tv_sec, 1000);
  EXPECT_EQ(facts.st_atim.tv_sec, 0);
}

TEST(Tree, ChangesTakeOnlyWhatTheyName) {
  Mounted mounted(fuse::MountShape::directory);
  struct stat wanted {};
  wanted.st_mode = S_IFREG | 0600;
  wanted.st_uid = 70;
  wanted.st_mtim.tv_sec = 5;
  const fuse_ino_t disk = mounted.tree.inode_of(0);
  mounted.tree.change(disk, wanted, FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_MTIME);
  const struct stat facts = *mounted.tree.attributes(disk);
  EXPECT_EQ(facts.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(facts.st_uid, 7u);
  EXPECT_EQ(facts.st_mtim.tv_sec, 5);
  EXPECT_EQ(mounted.tree.attributes(FUSE_ROOT_ID)->st_uid, 7u);
}

}  // namespace
