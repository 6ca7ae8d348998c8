#!/usr/bin/env -S python3 -B
"""Other users of the machine: what they see of a disk, and what they cannot learn, hold up or take."""

import os
import shutil
import socket
import stat

import content
import harness
from harness import AS_NOBODY, MiB, NOBODY, QCOWFS, run

SECRET = b"the words of the owner"

# What somebody may do with a file, as the letters of what succeeds: list its folder, stat, read, write it, ask for its
# statistics.
PROBE = r"""
import os, sys
disk = sys.argv[1]
def attempt(letter, action):
    try:
        action()
        print(letter, end="")
    except PermissionError:
        pass
def read():
    with open(disk, "rb") as file:
        assert file.read(22) == b"the words of the owner"
attempt("l", lambda: os.listdir(os.path.dirname(disk)))
attempt("s", lambda: os.stat(disk))
attempt("r", read)
attempt("w", lambda: os.close(os.open(disk, os.O_WRONLY)))
attempt("q", lambda: os.getxattr(disk, "user.qcowfs.stats"))
"""

# Connects to the daemon's control socket and prints what it hears until the end.
LISTEN = r"""
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(10)
    peer.connect("\0" + sys.argv[1])
    while heard := peer.recv(1000):
        print(heard)
"""


class StrangersCase(harness.MountCase):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.lacks("another user can be played by root only")
        os.chmod(self.folder, 0o755)
        self.python = shutil.which("python3", path="/usr/bin")
        if self.python is None:
            self.lacks("no /usr/bin/python3, which any user may run")

    def as_nobody(self, *command, **options):
        return run(*AS_NOBODY, *command, **options)

    def secret_image(self, mode):
        image = self.create(8 * MiB, name=f"disk{self.next_number()}.qcow2")
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, SECRET)
        daemon.unmount()
        os.chmod(image, mode)
        return image


class Files(StrangersCase):
    # The image's mode, options of the mount, what a stranger may do.
    TABLE = (
        (0o644, [], ""),
        (0o666, ["umask=000"], ""),
        (0o600, ["allow_other"], ""),
        (0o644, ["allow_other"], "lsrq"),
        (0o666, ["allow_other"], "lsrwq"),
        (0o666, ["allow_other", "umask=022"], "lsrq"),
        (0o666, ["allow_other", "umask=077"], ""),
        (0o600, ["allow_other", f"uid={NOBODY}"], "lsrwq"),
        (0o640, ["allow_other", f"gid={NOBODY}"], "lsrq"),
        (0o660, ["allow_other", f"gid={NOBODY}", "umask=027"], "lsrq"),
        (0o666, ["allow_root"], ""),
    )

    def test_only_what_modes_and_options_say(self):
        for mode, options, expected in self.TABLE:
            with self.subTest(mode=oct(mode), options=options):
                daemon = self.mount(self.secret_image(mode), *options)
                may = self.as_nobody(self.python, "-c", PROBE, daemon.disk).stdout
                self.assertEqual(may, expected)
                daemon.unmount()

    def test_what_is_made_is_as_private_as_the_umask_says(self):
        for umask, withheld in ((0o077, 0o077), (0o027, 0o027)):
            with self.subTest(umask=oct(umask)):
                folder = self.path(f"made{umask}")
                os.mkdir(folder)
                os.mkdir(os.path.join(folder, "point"))
                script = f"""
                    umask {umask:03o}
                    {QCOWFS} -o create=8m,log=log --pidfile pid image.qcow2 point
                    stat -c %a pid
                    {QCOWFS} umount point
                    {QCOWFS} create made.qcow2 8m
                    {QCOWFS} convert image.qcow2 converted.qcow2"""
                run("sh", "-euc", script, cwd=folder)
                for name in ("image.qcow2", "log", "made.qcow2", "converted.qcow2"):
                    mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
                    self.assertEqual(mode & withheld, 0, f"{name}: {mode:o}")


class Commands(StrangersCase):
    def test_a_stranger_cannot_end_it_nor_learn_of_it(self):
        daemon = self.mount(self.secret_image(0o666))
        program = shutil.copy(QCOWFS, self.path("qcowfs-of-all"))
        os.chmod(program, 0o755)
        for words in (["umount"], ["status"], ["status", "--json"], ["compact"]):
            self.refused(*AS_NOBODY, program, *words, daemon.point, names=[daemon.point])
        self.assertEqual(harness.read_at(daemon.disk, 0, len(SECRET)), SECRET)
        daemon.unmount()

    def test_a_stranger_cannot_listen_nor_keep_descriptors_busy(self):
        daemon = self.mount(self.secret_image(0o600), "allow_other")
        device = os.stat(daemon.point).st_dev
        name = f"qcowfs/{os.major(device)}:{os.minor(device)}"
        before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        for _ in range(100):
            self.assertEqual(self.as_nobody(self.python, "-c", LISTEN, name).stdout, "")
        self.assertEqual(len(os.listdir(f"/proc/{daemon.pid}/fd")), before)
        with socket.socket(socket.AF_UNIX) as owner:
            owner.connect("\0" + name)
            daemon.unmount()
            owner.settimeout(30)
            self.assertTrue(owner.recv(1000))


class Devices(StrangersCase):
    def test_a_mount_brings_no_rights(self):
        """Whatever lies on the disk: the file itself is no program of anybody's and no device."""
        daemon = self.mount(self.secret_image(0o6755), "allow_other")
        facts = os.stat(daemon.disk)
        self.assertTrue(stat.S_ISREG(facts.st_mode))
        with open("/proc/self/mounts", encoding="utf-8") as table:
            words = next(line.split()[3].split(",") for line in table if line.split()[1] == daemon.point)
        self.assertLessEqual({"nosuid", "nodev"}, set(words))
        daemon.unmount()


if __name__ == "__main__":
    harness.main()
