#!/usr/bin/env -S python3 -B
"""Everything at once, for as long as one likes: eight jobs of fio that verify what they wrote, files that come and go,
fstrim and fsync, on a file system on a loop device on the disk. At its end every judge must find it clean.

QCOWFS_SOAK_MINUTES   half a minute where it is not set
"""

import os
import random
import shutil
import threading
import time

import content
import harness
from harness import GiB, KiB, MiB, QCOWFS, run

MINUTES = float(os.environ.get("QCOWFS_SOAK_MINUTES", "0.5"))
ROUND_SECONDS = min(60, max(10, int(MINUTES * 60 / 3)))


class Churn(threading.Thread):
    """Makes files, looks at them later, deletes them; has the file system say what it freed."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.source = random.Random("churn")
        self.ended = threading.Event()
        self.failure = None
        self.files = {}
        self.done = {"made": 0, "deleted": 0, "trimmed": 0}

    def run(self):
        try:
            while not self.ended.is_set():
                self.step()
        except Exception as error:  # told by the thread that waits
            self.failure = error

    def step(self):
        draw = self.source.random()
        if draw < 0.05:
            run("fstrim", self.folder, timeout=300)
            self.done["trimmed"] += 1
        elif draw < 0.5 and len(self.files) < 40:
            self.make(self.done["made"])
        elif self.files:
            self.look_and_delete(self.source.choice(list(self.files)))
        time.sleep(0.05)

    def make(self, number):
        length = self.source.choice((1, 4 * KiB, 100 * KiB, MiB, 5 * MiB))
        path = os.path.join(self.folder, f"file-{number}")
        with open(path, "wb") as file:
            file.write(content.mixed(length, number))
            if self.source.random() < 0.5:
                file.flush()
                os.fsync(file.fileno())
        self.files[path] = (number, length)
        self.done["made"] += 1

    def look_and_delete(self, path):
        number, length = self.files.pop(path)
        with open(path, "rb") as file:
            if file.read() != content.mixed(length, number):
                raise AssertionError(f"{path} has other bytes than were written")
        os.unlink(path)
        self.done["deleted"] += 1

    def stop(self):
        self.ended.set()
        self.join()
        if self.failure:
            raise self.failure


class Soak(harness.MountCase):
    def setUp(self):
        super().setUp()
        if shutil.which("fio") is None:
            self.lacks("fio is not installed")

    def verify_by_fio(self, folder, number):
        os.mkdir(folder)
        run("fio", "--name=verify", f"--directory={folder}", "--ioengine=psync", "--rw=randwrite", "--bsrange=4k-128k",
            "--size=48m", "--numjobs=8", "--fsync=32", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256",
            "--time_based", f"--runtime={ROUND_SECONDS}", f"--randseed={number}", "--buffer_compress_percentage=60",
            "--refill_buffers", "--fallocate=none", "--group_reporting", timeout=ROUND_SECONDS + 600)
        shutil.rmtree(folder)

    def test_of_everything(self):
        image = self.create(2 * GiB)
        daemon = self.mount(image)
        run("mkfs.ext4", "-q", "-F", daemon.disk)
        device = self.loop_device(daemon.disk)
        folder = self.loop_mount(device)
        churned = os.path.join(folder, "churned")
        os.mkdir(churned)
        churn = Churn(churned)
        churn.start()
        rounds = 0
        started = time.monotonic()
        try:
            while time.monotonic() - started < MINUTES * 60:
                self.verify_by_fio(os.path.join(folder, f"round-{rounds}"), rounds)
                rounds += 1
                self.assertIsNone(churn.failure)
        finally:
            churn.stop()
        print(f"{rounds} rounds of {ROUND_SECONDS} s; files: {churn.done}")
        run("umount", folder)
        self.detach(device)
        run("fsck.ext4", "-fn", daemon.disk)
        copy = self.path("copy.raw")
        run("cp", "--sparse=always", daemon.disk, copy, timeout=300)
        daemon.unmount()
        self.judge(image, copy)
        run(QCOWFS, "check", image)


if __name__ == "__main__":
    harness.main()
