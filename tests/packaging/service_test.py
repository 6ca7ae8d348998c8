#!/usr/bin/env -S python3 -B
"""What a service manager is told, and what systemd thinks of the unit."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess

import house
from house import QCOWFS, run

import content  # of the tests of mounts
import harness

MiB = harness.MiB
EXPOSURE_MAX = 45  # tenths: what is left is a mount that others see, and root's power over files


class Notify(harness.MountCase):
    def setUp(self):
        super().setUp()
        self.image = self.create(8 * MiB)
        self.point = self.path("point")
        os.mkdir(self.point)
        self.addCleanup(lambda: self.point in harness.mounts() and run("umount", "-l", self.point))

    def listen(self, address):
        """A socket as systemd has it, and its name for the environment."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(address)
        listener.settimeout(60 * harness.PATIENCE)
        return listener, os.environ | {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def start_service(self, environment, *command):
        log = open(self.path("log"), "ab")  # pylint: disable=consider-using-with
        self.addCleanup(log.close)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def states(self, listener):
        return dict(line.split("=") for line in listener.recv(4096).decode().split("\n"))

    def live_from_ready_to_stopping(self, stop):
        for address in (self.path("notify"), f"\0{self.path('notify')}"):
            listener, environment = self.listen(address)
            process = self.start_service(environment, QCOWFS, "mount", "-f", self.image, self.point)
            self.assertEqual(self.states(listener), {"READY": "1", "MAINPID": str(process.pid)})
            self.assertIn(self.point, harness.mounts())
            data = content.mixed(4 * MiB, 1)
            harness.write_at(os.path.join(self.point, "disk.raw"), 4 * MiB, data)
            stop(process)
            self.assertEqual(self.states(listener), {"STOPPING": "1"})
            self.assertEqual(process.wait(60 * harness.PATIENCE), 0)
            self.assertNotIn(self.point, harness.mounts())
            twin = content.write_file(self.path("twin"), bytes(4 * MiB) + data)
            self.judge(self.image, twin)

    def test_stopped_by_the_verb(self):
        self.live_from_ready_to_stopping(lambda process: run(QCOWFS, "umount", self.point))

    def test_stopped_by_a_signal(self):
        self.live_from_ready_to_stopping(lambda process: process.send_signal(signal.SIGTERM))

    def test_in_the_background_the_daemon_is_named(self):
        listener, environment = self.listen(self.path("notify"))
        run(QCOWFS, self.image, self.point, env=environment)
        said = self.states(listener)
        self.assertEqual((said["READY"], int(said["MAINPID"])), ("1", harness.find_daemon(self.image, self.point)))
        run(QCOWFS, "umount", self.point)
        self.assertEqual(self.states(listener), {"STOPPING": "1"})

    def test_nothing_is_ready_where_the_mount_fails(self):
        listener, environment = self.listen(self.path("notify"))
        self.refused(QCOWFS, self.path("missing"), self.point, env=environment)
        listener.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            listener.recv(4096)

    def test_nobody_listens(self):
        for address in ("", "@", "relative", self.path("nobody"), "/" + "x" * 300):
            run(QCOWFS, self.image, self.point, env=os.environ | {"NOTIFY_SOCKET": address})
            run(QCOWFS, "umount", self.point)


class Unit(harness.MountCase):
    def setUp(self):
        super().setUp()
        if shutil.which("systemd-analyze") is None:
            self.lacks("systemd-analyze is not installed")
        self.prefix = self.path("usr")
        house.install(self.prefix)
        self.unit = os.path.join(self.prefix, "lib/systemd/system/qcowfs@.service")

    def test_systemd_understands_it(self):
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", self.unit, expect=None)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_it_is_closed_as_far_as_a_mount_permits(self):
        done = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}",
                   self.unit, expect=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_nothing_hides_the_mount(self):
        """Each of these gives the service a mount namespace of its own, or hides its sockets."""
        text = harness.read_text(self.unit)
        for directive in ("Private", "Protect", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "MountFlags",
                          "RootDirectory", "TemporaryFileSystem", "BindPaths", "DynamicUser"):
            self.assertNotRegex(text, rf"(?m)^{directive}")

    def test_what_it_runs_works_with_the_example(self):
        """Its command line, as systemd makes it, with the values of the example but for the paths."""
        image = self.create(MiB)
        point = self.path("a point, with a comma")
        os.mkdir(point)
        text = harness.read_text(self.unit)
        for values in ({}, self.example()):
            values = {"OPTIONS": re.search("(?m)^Environment=OPTIONS=(.*)$", text).group(1)} | values
            values |= {"IMAGE": image, "MOUNTPOINT": point}
            command = re.search("(?m)^ExecStart=(.*)$", text).group(1)
            start = [re.sub(r"\$\{(\w+)\}", lambda match: values[match.group(1)], word)
                     for word in shlex.split(command)]
            process = self.start(point, *start[1:])
            self.assertEqual(os.path.realpath(start[0]), os.path.join(self.prefix, "bin/qcowfs"))
            harness.write_at(os.path.join(point, "disk.raw"), 0, b"x" * 512)
            process.terminate()
            self.assertEqual(self.end(process), 0)
            self.check(image)

    def example(self):
        path = os.path.join(self.prefix, "share/doc/qcowfs/examples/example.conf")
        lines = [line for line in harness.read_text(path).splitlines() if line and not line.startswith("#")]
        self.assertEqual([line.partition("=")[0] for line in lines], ["IMAGE", "MOUNTPOINT", "OPTIONS"])
        return dict(line.split("=", 1) for line in lines)


if __name__ == "__main__":
    house.main()
