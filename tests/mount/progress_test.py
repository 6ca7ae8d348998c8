#!/usr/bin/env -S python3 -B
"""What takes long says so, to a person at a terminal and to nobody else."""

import os
import pty
import signal
import subprocess
import threading
import time

import content
import harness
from harness import MiB, QCOWFS, run

CLEAR_LINE = "\r\033[K"


class Watched:
    """A command whose stderr is a terminal."""

    def __init__(self, case, *command):
        self.shown = ""
        self.started = time.monotonic()
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=end)
        os.close(end)
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.kill)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while True:
            try:
                part = os.read(self.terminal, 4096)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                return
            self.shown += part.decode(errors="replace")

    def wait(self):
        """Its exit status, and for how many seconds it ran."""
        status = self.process.wait(120 * harness.PATIENCE)
        seconds = time.monotonic() - self.started
        self.reader.join(60)
        os.close(self.terminal)
        return status, seconds


class Mount(harness.MountCase):
    def test_who_waits_in_the_foreground_is_told_so(self):
        image = self.path("large.qcow2")
        size = "4G" if harness.SANITIZED else "16G"
        run(QCOWFS, "create", "--preallocation", "metadata", "--cluster-size", "512", image, size)  # much to look at
        point = self.path("point")
        os.mkdir(point)
        mount = Watched(self, QCOWFS, "-f", image, point)
        harness.wait_for(lambda: f"{CLEAR_LINE}looking at {image} ... 1 s" in mount.shown, 60)
        mount.process.terminate()
        mount.wait()
        self.assertNotIn(point, harness.mounts())


class Unmount(harness.MountCase):
    def stopped_daemon(self):
        """One that does not get on until it is told to."""
        if os.geteuid() != 0:
            self.lacks("only root unmounts without the daemon's help")
        daemon = self.mount(self.create(MiB))
        os.kill(daemon.pid, signal.SIGSTOP)
        self.addCleanup(lambda: harness.is_running(daemon.pid) and os.kill(daemon.pid, signal.SIGCONT))
        return daemon

    def test_who_waits_at_a_terminal_is_told_so(self):
        daemon = self.stopped_daemon()
        umount = Watched(self, QCOWFS, "umount", daemon.point)
        harness.wait_for(lambda: "... 2 s" in umount.shown, 30)
        os.kill(daemon.pid, signal.SIGCONT)
        self.assertEqual(umount.wait()[0], 0)
        self.assertIn(f"{CLEAR_LINE}storing {daemon.image} ... 1 s", umount.shown)
        self.assertTrue(umount.shown.endswith(CLEAR_LINE), umount.shown)
        daemon.must_be_over()

    def test_who_does_not_is_not(self):
        daemon = self.stopped_daemon()
        umount = subprocess.Popen([QCOWFS, "umount", daemon.point], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(umount.wait)
        self.addCleanup(umount.kill)
        time.sleep(2.5)
        os.kill(daemon.pid, signal.SIGCONT)
        self.assertEqual(umount.communicate(timeout=60 * harness.PATIENCE)[0], b"")
        self.assertEqual(umount.returncode, 0)
        daemon.must_be_over()

    def test_much_to_store_is_shown_as_a_bar(self):
        size = harness.scaled(64, 4) * MiB
        image = self.create(size)
        twin = content.write_file(self.path("twin"), content.text(size, 1))
        for pipe in (False, True):
            daemon = self.mount(image, "level=9", "workers=1", "commit_interval=3600", "cache_size=256m")
            harness.write_at(daemon.disk, 0, harness.read_at(twin, 0, size))
            if pipe:
                done = run(QCOWFS, "umount", daemon.point)
                self.assertEqual((done.stdout, done.stderr), ("", ""))
            else:
                umount = Watched(self, QCOWFS, "umount", daemon.point)
                status, seconds = umount.wait()
                self.assertEqual(status, 0)
                if seconds > 2:  # else there is nothing to be told
                    self.assertRegex(umount.shown, r"\d+ % \[#*\.*\] \d+ MiB, \d+ MiB/s")
                self.assertTrue(umount.shown == "" or umount.shown.endswith(CLEAR_LINE), umount.shown)
            daemon.must_be_over()
        self.judge(image, twin)

    def test_a_complaint_takes_the_place_of_what_was_shown(self):
        umount = Watched(self, QCOWFS, "umount", self.folder)
        self.assertEqual(umount.wait()[0], 1)
        self.assertEqual(umount.shown, f"{CLEAR_LINE}qcowfs: {self.folder}: nothing is mounted here\r\n")


if __name__ == "__main__":
    harness.main()
