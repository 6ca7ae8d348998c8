// Lines of /proc/self/mountinfo.
#include "fuse/mount_table.h"

#include <gtest/gtest.h>

namespace {

TEST(MountTable, ReadsALine) {
  const auto entry = fuse::parse_mount_line(
      "43 23 0:51 / /mnt/disk rw,nosuid,nodev,relatime shared:7 master:1 - fuse.qcowfs /img/a.qcow2 "
      "rw,user_id=1000,group_id=100,default_permissions");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->device, "0:51");
  EXPECT_EQ(entry->mountpoint, "/mnt/disk");
  EXPECT_EQ(entry->type, "fuse.qcowfs");
  EXPECT_EQ(entry->source, "/img/a.qcow2");
  EXPECT_EQ(entry->owner, "1000");
}

TEST(MountTable, ReadsALineWithoutTagsAndWithBlanksInItsNames) {
  const auto entry = fuse::parse_mount_line(R"(22 1 8:1 / /my\040disk\134x rw - ext4 /dev/my\011disk rw)");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->mountpoint, "/my disk\\x");
  EXPECT_EQ(entry->source, "/dev/my\tdisk");
  EXPECT_EQ(entry->owner, "");
}

TEST(MountTable, RefusesWhatIsNoLine) {
  for (const char* line : {"", "- - -", "1 2 3:4 / /m rw", "1 2 3:4 / /m rw - ext4 src", "1 2 3:4 / /m rw shared:1"}) {
    EXPECT_FALSE(fuse::parse_mount_line(line)) << line;
  }
}

TEST(MountTable, FindsTheRootButNoPlainDirectory) {
  EXPECT_TRUE(fuse::find_mount("/"));
  EXPECT_FALSE(fuse::find_mount("/no/such/mount"));
}

TEST(MountTable, MountPointsAreMadeAbsolute) {
  EXPECT_EQ(fuse::canonical_mountpoint("/proc/"), "/proc");
  EXPECT_EQ(fuse::canonical_mountpoint("/proc/../proc/."), "/proc");
  EXPECT_EQ(fuse::canonical_mountpoint("/"), "/");
  EXPECT_ANY_THROW(fuse::canonical_mountpoint("/no/such/place"));
}

}  // namespace
