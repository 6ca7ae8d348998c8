#!/usr/bin/env -S python3 -B
"""Without root: an ordinary user with fusermount3, and root of nothing but a user namespace."""

import os
import shutil
import tempfile
import unittest

import house
from house import QCOWFS, run

import content  # of the tests of mounts
import harness

MiB = harness.MiB


class Rootless(harness.MountCase):
    def setUp(self):
        super().setUp()
        if os.geteuid() == 0 and os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
            self.lacks("/dev/fuse is closed to ordinary users")
        # Where any user may go, with a program that any user may run.
        self.home = tempfile.mkdtemp(prefix="qcowfs-home-")
        self.addCleanup(shutil.rmtree, self.home)
        self.program = shutil.copy(QCOWFS, self.home)
        self.image, self.point, self.source = (os.path.join(self.home, name) for name in ("image", "point", "source"))
        os.mkdir(self.point)
        content.write_file(self.source, content.mixed(4 * MiB, 1))
        self.user = []
        if os.geteuid() == 0:
            self.user = list(harness.AS_NOBODY)
            for path in (self.home, self.point, self.source):
                os.chown(path, harness.NOBODY, harness.NOBODY)
        self.addCleanup(lambda: self.point in harness.mounts() and run("umount", "-l", self.point))

    def as_user(self, *command, **options):
        return run(*self.user, *command, cwd=self.home, **options)

    def shell(self, script, before=(), **options):
        """As the user, behind the words of `before`. The script finds $qcowfs, $image, $point and $source."""
        environment = os.environ | {"qcowfs": self.program, "image": self.image, "point": self.point,
                                    "source": self.source}
        return self.as_user(*before, "sh", "-euxc", script, env=environment, **options)

    def judge_source(self):
        self.judge(self.image, self.source)


class User(Rootless):
    def setUp(self):
        super().setUp()
        if shutil.which("fusermount3") is None:
            self.lacks("fusermount3 is not installed")

    WORK = """
        "$qcowfs" create "$image" 4m
        "$qcowfs" "$image" "$point"
        cp "$source" "$point/image.raw"
        cmp "$source" "$point/image.raw" """

    def test_from_creation_to_unmount(self):
        self.shell(self.WORK)
        self.assertEqual(harness.mounts()[self.point], "fuse.qcowfs")
        self.shell('"$qcowfs" umount "$point"')
        self.assertNotIn(self.point, harness.mounts())
        self.judge_source()

    def test_fusermount(self):
        self.shell(self.WORK)
        self.shell('fusermount3 -u "$point"')
        harness.wait_for(lambda: run("qemu-img", "check", "-q", self.image, expect=None).returncode == 0, 60)
        self.judge_source()

    def test_a_signal_unmounts(self):
        script = self.WORK.replace('"$qcowfs" "$image" "$point"', """
            "$qcowfs" -f "$image" "$point" & daemon=$!
            until grep -q " $point " /proc/mounts; do sleep 0.05; done""")
        self.shell(script + """
            kill $daemon
            wait $daemon""")
        self.assertNotIn(self.point, harness.mounts())
        self.judge_source()

    @unittest.skipUnless(os.geteuid() == 0, "is about two users, and only root can be both")
    def test_others_do_not_see_it(self):
        self.shell(self.WORK)
        with self.assertRaises(PermissionError):
            os.listdir(self.point)
        self.shell('"$qcowfs" umount "$point"')

    def test_allow_other_is_up_to_the_machine(self):
        """One line of reason where /etc/fuse.conf does not allow it."""
        self.shell('"$qcowfs" create "$image" 4m')
        allowed = "\nuser_allow_other" in "\n" + harness.read_text("/etc/fuse.conf")
        done = self.shell('"$qcowfs" -o allow_other "$image" "$point"', expect=0 if allowed else 1)
        if allowed:
            self.shell('"$qcowfs" umount "$point"')
        else:
            self.assertIn("user_allow_other", [line for line in done.stderr.splitlines() if line[0] != "+"][-1])
            self.assertNotIn(self.point, harness.mounts())


class UserNamespace(Rootless):
    """`unshare -Urm`, as in a container without privileges: the kernel mounts, no setuid program is needed."""

    UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")

    def setUp(self):
        super().setUp()
        if self.as_user(*self.UNSHARE, "true", expect=None).returncode != 0:
            self.lacks("ordinary users may not have user namespaces")

    def test_from_creation_to_unmount(self):
        script = """
            ! helper=$(command -v fusermount3) || mount --bind /dev/null "$helper"  # as if it were not there
            "$qcowfs" create "$image" 4m
            "$qcowfs" "$image" "$point"
            cp "$source" "$point/image.raw"
            cmp "$source" "$point/image.raw"
            grep " $point fuse.qcowfs " /proc/mounts
            "$qcowfs" umount "$point"
            ! grep " $point " /proc/mounts"""
        self.shell(script, before=self.UNSHARE)
        self.assertNotIn(self.point, harness.mounts())
        self.judge_source()


if __name__ == "__main__":
    house.open_fuse_to_users()
    house.main()
