"""A daemon in the foreground whose process is ours from the start: to be killed at a given moment, or to run with an
environment of its own. That it is live it tells as it tells systemd: without a delay and without polling."""

import itertools
import os
import signal
import socket
import subprocess

import harness

names = itertools.count()


class Foreground:
    """One mount at `point`, a folder. Leaves neither process nor mount behind, however the test ends."""

    def __init__(self, case, image, point, *options, environment=None):
        self.case = case
        self.image = image
        self.point = point
        self.disk = os.path.join(point, harness.shown_name(image))
        self.log = case.path(f"log-{case.next_number()}")
        command = [harness.QCOWFS, "-f", *(["-o", ",".join(options)] if options else []), image, point]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.log, "ab") as log:
            name = f"qcowfs-test-{os.getpid()}-{next(names)}"
            ready.bind("\0" + name)
            ready.settimeout(0.05)
            variables = {**os.environ, **(environment or {}), "NOTIFY_SOCKET": "@" + name}
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
            case.addCleanup(self.clean_up)
            self.wait_until_live(ready)

    def wait_until_live(self, ready):
        for _ in range(20 * 60 * harness.PATIENCE):
            try:
                if b"READY=1" in ready.recv(100).split(b"\n"):
                    return
            except socket.timeout:
                pass
            if self.process.poll() is not None:
                raise AssertionError(f"qcowfs ended with {self.process.returncode}: {self.said()}")
        raise AssertionError(f"{self.point} is not live: {self.said()}")

    def said(self):
        return harness.read_text(self.log)

    def kill(self):
        """SIGKILL. When it returns the process is gone and the image is free."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60 * harness.PATIENCE)
        self.must_have_no_report()

    def unmount(self, expect=0):
        """`qcowfs umount`; the daemon's exit status must say the same: 0 or 1."""
        done = harness.run(harness.QCOWFS, "umount", self.point, expect=expect)
        status = self.process.wait(60 * harness.PATIENCE)
        self.must_have_no_report()
        self.case.assertEqual(status, expect, self.said())
        self.case.assertNotIn(self.point, harness.mounts())
        return done

    def must_have_no_report(self):
        said = self.said()
        self.case.assertIsNone(harness.SANITIZER_REPORT.search(said), said[-20000:])

    def clean_up(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        detach(self.point)


def detach(point):
    """Takes away whatever is mounted there, dead or not."""
    if point in harness.mounts():
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        harness.run(*command, point, expect=None)
