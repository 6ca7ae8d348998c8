#!/usr/bin/env -S python3 -B
"""The tarball: its program works where there is nothing else, and does what the ordinary one does."""

import os
import sys

import house
from house import ROOT, run

import content  # of the tests of mounts
import harness

MiB = harness.MiB
TESTS = os.path.dirname(os.path.abspath(__file__))


class Tarball(harness.MountCase):
    @classmethod
    def setUpClass(cls):
        # In its usual place: what was compiled there before is not compiled again.
        cls.tarball = run(os.path.join(ROOT, "packaging/build-tarball"), timeout=1500).stdout.strip()

    def setUp(self):
        super().setUp()
        run("tar", "-C", self.folder, "-xzf", self.tarball)
        self.tree = self.path(os.path.basename(self.tarball).removesuffix(".tar.gz"))
        self.program = os.path.join(self.tree, "bin/qcowfs")

    def test_what_is_in_it(self):
        for name in ("sbin/mount.qcowfs", "share/man/man1/qcowfs.1", "share/man/man8/mount.qcowfs.8",
                     "share/bash-completion/completions/qcowfs", "lib/systemd/system/qcowfs@.service",
                     "share/doc/qcowfs/README.md", "share/doc/qcowfs/licenses/qcowfs",
                     "share/doc/qcowfs/licenses/libfuse3"):
            self.assertTrue(os.path.exists(os.path.join(self.tree, name)), name)
        unit = harness.read_text(os.path.join(self.tree, "lib/systemd/system/qcowfs@.service"))
        self.assertIn("ExecStart=/usr/local/bin/qcowfs ", unit)
        self.assertEqual(os.path.realpath(os.path.join(self.tree, "sbin/mount.qcowfs")),
                         os.path.realpath(self.program))

    def test_where_there_is_nothing_else(self):
        """A root with the program, the FUSE device and /proc: no shell, no libc, no fusermount3."""
        if os.geteuid() != 0:
            self.lacks("another root needs root")
        root = self.path("root")
        for name in ("bin", "dev", "proc", "mnt"):
            os.makedirs(os.path.join(root, name))
        os.rename(self.program, os.path.join(root, "bin/qcowfs"))
        run("mknod", os.path.join(root, "dev/fuse"), "c", "10", "229")
        data = content.write_file(self.path("data"), content.mixed(4 * MiB, 1))
        script = """
            mount -t proc proc "$1/proc"
            chroot "$1" /bin/qcowfs --version
            for type in zlib zstd; do
              chroot "$1" /bin/qcowfs create --compression $type /$type.qcow2 4m
              chroot "$1" /bin/qcowfs /$type.qcow2 /mnt
              cp "$2" "$1/mnt/$type.raw"
              cmp "$2" "$1/mnt/$type.raw"
              chroot "$1" /bin/qcowfs umount /mnt
              chroot "$1" /bin/qcowfs check --data /$type.qcow2
            done"""
        run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-euxc", script,
            "sh", root, data)
        for name in ("zlib", "zstd"):
            self.judge(os.path.join(root, f"{name}.qcow2"), data)

    def test_it_does_what_the_ordinary_one_does(self):
        """Other tests, with this program: without root, by fusermount3; its own way to tell a service manager."""
        for test in ("rootless_test.py", "service_test.py Notify", "../mount/command_line_test.py Mount Signals"):
            with self.subTest(test=test):
                name, *classes = test.split()
                run(sys.executable, "-B", os.path.join(TESTS, name), *classes, timeout=300,
                    env=os.environ | {"QCOWFS": self.program})


if __name__ == "__main__":
    house.main()
