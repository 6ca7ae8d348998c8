#!/usr/bin/env -S python3 -B
"""The file system that an image lies on may refuse direct I/O, holes, space set aside, or tell nothing: the image is
written all the same, what was fsynced outlives a kill, and what cannot be had is said once.
"""

import errno
import os
import random

import harness
from harness import KiB, MiB, QCOWFS, run, scaled

DISK_SIZE = 32 * MiB
HOST_SIZE = 400 * MiB  # mkfs.xfs wants 300 MiB
OPERATIONS = scaled(80, 30)
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def has_fallocate(folder, mode):
    """Whether the file system in `folder` knows fallocate with `mode`."""
    path = os.path.join(folder, "probe")
    with open(path, "wb") as file:
        file.write(bytes(64 * KiB))
    try:
        harness.fallocate(path, mode, 0, 4 * KiB)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return False
    finally:
        os.unlink(path)
    return True


def has_direct_io(folder):
    path = os.path.join(folder, "probe")
    with open(path, "wb"):
        pass
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.unlink(path)
    return True


class HostFileSystems(harness.MountCase):
    def made_on_loop(self, *mkfs):
        path = self.twin(HOST_SIZE, name="host.raw")
        run(*mkfs, path)
        return self.loop_mount(self.loop_device(path))

    def serve(self, folder, punches=True, reserves=True, direct=True):
        """An image in `folder` is written, killed, mounted again, compacted, and equals its twin."""
        ours = (has_fallocate(folder, harness.FALLOC_FL_KEEP_SIZE | harness.FALLOC_FL_PUNCH_HOLE),
                has_fallocate(folder, harness.FALLOC_FL_KEEP_SIZE), has_direct_io(folder))
        self.assertEqual(ours, (punches, reserves, direct), "the table in README.md says otherwise")
        image = os.path.join(folder, "disk.qcow2")
        run(QCOWFS, "create", image, DISK_SIZE)
        twin = self.twin(DISK_SIZE)
        source = random.Random(11)
        for _ in range(2):
            daemon = self.mount(image)
            self.refused(QCOWFS, image, self.folder_for_another(), says="in use")
            for _ in range(OPERATIONS):
                harness.change_at_random(source, (daemon.disk, twin), DISK_SIZE)
            harness.fsync(daemon.disk)
            daemon.kill()
            daemon = self.mount(image)
            self.assert_same_bytes(daemon.disk, twin)
            daemon.unmount()
            self.judge(image, twin)
        run(QCOWFS, "compact", image)
        self.judge(image, twin)
        self.says_once_what_it_lacks(image, punches, reserves, direct)
        os.unlink(image)

    def folder_for_another(self):
        folder = self.path(f"point-{self.next_number()}")
        os.mkdir(folder)
        return folder

    def says_once_what_it_lacks(self, image, punches, reserves, direct):
        log = self.path(f"log-{self.next_number()}")
        daemon = self.mount(image, f"log={log}")
        for offset in (0, 8 * MiB):
            harness.write_at(daemon.disk, offset, random.Random(offset).randbytes(MiB))
            harness.fsync(daemon.disk)
        harness.punch(daemon.disk, 0, 8 * MiB)
        daemon.unmount()
        said = harness.read_text(log)
        for sentence, has in (("refuses direct I/O", direct), ("sets no space aside", reserves),
                              ("takes no space back", punches)):
            self.assertEqual(said.count(sentence), 0 if has else 1, said)

    def test_ext4(self):
        self.serve(self.made_on_loop("mkfs.ext4", "-q", "-F"))

    def test_xfs(self):
        self.serve(self.made_on_loop("mkfs.xfs", "-q"))

    def test_btrfs(self):
        self.serve(self.made_on_loop("mkfs.btrfs", "-q"))

    def test_tmpfs(self):
        self.serve(self.mounted("mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs"))

    def test_overlay(self):
        below = self.made_on_loop("mkfs.ext4", "-q", "-F")
        for name in ("lower", "upper", "work"):
            os.mkdir(os.path.join(below, name))
        folders = ",".join(f"{name}dir={below}/{name}" for name in ("lower", "upper", "work"))
        self.serve(self.mounted("mount", "-t", "overlay", "-o", folders, "overlay"))

    def test_sshfs(self):
        """Over SFTP to this machine, without a network."""
        far = self.path("far")
        os.mkdir(far)
        script = self.path("no-ssh")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nexec {SFTP_SERVER}\n")
        os.chmod(script, 0o755)
        self.serve(self.mounted("sshfs", "-o", f"ssh_command={script}", f"nowhere:{far}"), punches=False,
                   reserves=False)


if __name__ == "__main__":
    harness.main()
