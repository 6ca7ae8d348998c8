#!/usr/bin/env -S python3 -B
"""File systems on the mounted disk: made, loop-mounted, filled, changed, checked, mounted again."""

import os
import shutil
import time

import content
import harness
from harness import MiB, run, scaled

UUID = "6a3f1b52-0c1e-4e8f-9d68-2f6a3c1d9b10"
DISK_SIZE = 640 * MiB  # mkfs.xfs wants 300 MiB, mkfs.btrfs 109 MiB
TREE_SIZE = scaled(60 * MiB, 12 * MiB)


def same_tree(case, left, right):
    done = run("diff", "-r", "--no-dereference", "-x", "lost+found", left, right, expect=None, timeout=300)
    case.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    for folder, _, names in os.walk(left):
        for name in names:
            path = os.path.join(folder, name)
            other = os.path.join(right, os.path.relpath(path, left))
            case.assertEqual((os.lstat(path).st_mode, os.lstat(path).st_nlink),
                             (os.lstat(other).st_mode, os.lstat(other).st_nlink), path)


class MakeExt4(harness.MountCase):
    """mkfs.ext4 -d needs no root: it writes the whole file system through the mounted file."""

    def tree(self, name, seed):
        folder = content.make_tree(self.path(name), seed, TREE_SIZE)
        time.sleep(0.1)
        # mkfs copies times of access: after this, reading changes none.
        run("sh", "-c", f"tar -C {folder} -c . | wc -c")
        return folder

    def make(self, tree, disk):
        run("mkfs.ext4", "-q", "-F", "-U", UUID, "-E", f"hash_seed={UUID}", "-d", tree, disk, timeout=300,
            env={**os.environ, "E2FSPROGS_FAKE_TIME": "1700000000"})

    def content_is(self, disk, tree):
        run("e2fsck", "-f", "-n", disk)
        folder = self.path(f"dump-{self.next_number()}")
        os.mkdir(folder)
        run("debugfs", "-R", f"rdump / {folder}", disk, timeout=300)
        done = run("diff", "-r", "--no-dereference", "-x", "lost+found", tree, folder, expect=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        shutil.rmtree(folder)

    def test_made_from_a_tree_it_equals_a_raw_twin(self):
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        for seed in (1, 2):  # the second over the first
            tree = self.tree(f"tree-{seed}", seed)
            daemon = self.mount(image)
            self.make(tree, daemon.disk)
            self.make(tree, twin)
            self.content_is(daemon.disk, tree)
            daemon.unmount()
            self.judge(image, twin)
            daemon = self.mount(image, arguments=["-r"])
            self.content_is(daemon.disk, tree)
            daemon.unmount()


class Loop(harness.MountCase):
    """The kernel's own file systems, through a loop device on the mounted file."""

    def make_and_judge(self, make, check, mount_options=("-o", "discard")):
        trees = [content.make_tree(self.path(f"tree-{seed}"), seed, TREE_SIZE) for seed in (1, 2)]
        image = self.create(DISK_SIZE)
        daemon = self.mount(image)
        run(*make, daemon.disk, timeout=300)

        device = self.loop_device(daemon.disk)
        folder = self.loop_mount(device, *mount_options)
        run("cp", "-a", trees[0], os.path.join(folder, "first"), timeout=300)
        run("cp", "-a", trees[1], os.path.join(folder, "second"), timeout=300)
        run("sync", "-f", folder, timeout=300)
        shutil.rmtree(os.path.join(folder, "first"))
        run("fstrim", folder, timeout=300)
        run("cp", "-a", trees[0], os.path.join(folder, "third"), timeout=300)
        run("umount", folder, timeout=300)
        self.detach(device)
        run(*check, daemon.disk, timeout=300)
        twin = self.path("twin.raw")
        run("cp", "--sparse=always", daemon.disk, twin, timeout=300)
        daemon.unmount(timeout=300)
        self.judge(image, twin)

        daemon = self.mount(image)
        self.assert_same_bytes(daemon.disk, twin)
        device = self.loop_device(daemon.disk)
        folder = self.loop_mount(device)
        self.assertFalse(os.path.exists(os.path.join(folder, "first")))
        same_tree(self, trees[1], os.path.join(folder, "second"))
        same_tree(self, trees[0], os.path.join(folder, "third"))
        run("umount", folder, timeout=300)
        self.detach(device)
        run(*check, daemon.disk, timeout=300)
        daemon.unmount(timeout=300)
        self.check(image)

    def test_ext4(self):
        self.make_and_judge(["mkfs.ext4", "-q", "-F"], ["e2fsck", "-f", "-n"])

    def test_xfs(self):
        self.make_and_judge(["mkfs.xfs", "-q", "-f"], ["xfs_repair", "-n", "-f"])

    def test_btrfs(self):
        self.make_and_judge(["mkfs.btrfs", "-q", "-f"], ["btrfs", "check", "--readonly"])

    def test_loop_devices_with_direct_io(self):
        image = self.create(DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(image)
        device = self.loop_device(daemon.disk, "--direct-io=on")
        for offset, size in [(0, MiB), (5 * MiB + 512, 70000 // 512 * 512), (DISK_SIZE - MiB, MiB)]:
            data = content.mixed(size, offset)
            harness.write_at(device, offset, data)
            harness.write_at(twin, offset, data)
        run("blkdiscard", "--offset", 4096, "--length", 64 * 1024, device)
        harness.punch(twin, 4096, 64 * 1024)
        run("blkdiscard", "--zeroout", "--offset", 200 * 1024, "--length", 100 * 1024, device)
        harness.zero_range(twin, 200 * 1024, 100 * 1024)
        run("blockdev", "--flushbufs", device)
        run("cmp", device, twin)
        self.detach(device)
        daemon.unmount()
        self.judge(image, twin)


if __name__ == "__main__":
    harness.main()
