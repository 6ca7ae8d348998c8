#!/usr/bin/env -S python3 -B
"""A daemon that serves keeps no power but to serve: seen from outside, and tried from inside every thread of it."""

import ctypes
import errno
import os
import re
import shutil
import signal
import stat
import unittest

import content
import foreground
import harness
from harness import MiB, QCOWFS, run

TEMPTATION = os.environ.get("QCOWFS_TEMPTATION")
WORKERS = b"user.qcowfs.workers"


def threads(pid):
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def powers(pid):
    """For each thread: its capabilities, whether no_new_privs is set, how its system calls are filtered."""
    found = set()
    for thread in threads(pid):
        status = harness.read_text(f"/proc/{pid}/task/{thread}/status")
        value = dict(re.findall(r"(?m)^(CapPrm|CapEff|CapInh|NoNewPrivs|Seccomp):\t(\w+)$", status))
        found.add((value["CapPrm"], value["CapEff"], value["CapInh"], value["NoNewPrivs"], value["Seccomp"]))
    return found


def signal_thread(pid, thread, number):
    if harness.libc.syscall(ctypes.c_long(234), pid, thread, number) != 0:  # tgkill; x86-64
        raise OSError(ctypes.get_errno(), "tgkill")


class Powers(harness.MountCase):
    NONE = ("0" * 16, "0" * 16, "0" * 16, "1", "2")

    def test_none_is_kept_in_any_thread(self):
        daemon = self.mount(self.create(8 * MiB), f"log={self.path('log')}")
        self.assertEqual(powers(daemon.pid), {self.NONE})
        os.setxattr(daemon.disk, WORKERS, b"9")
        harness.write_at(daemon.disk, 0, content.mixed(4 * MiB, 1))
        harness.fsync(daemon.disk)
        self.assertGreater(len(threads(daemon.pid)), 9)
        self.assertEqual(powers(daemon.pid), {self.NONE})
        self.assertRegex(harness.read_text(self.path("log")), "confined: system calls filtered, no capabilities, no ")
        daemon.unmount()

    def test_they_are_kept_where_that_is_asked_for(self):
        daemon = self.mount(self.create(MiB), "sandbox=off")
        self.assertEqual({(new_privileges, filtered) for *_, new_privileges, filtered in powers(daemon.pid)},
                         {("0", "0")})
        daemon.unmount()

    def test_a_sandbox_that_cannot_be_had(self):
        """The filter is refused where a filter already forbids the call, as in some containers."""
        image = self.create(MiB)
        point = self.path("point")
        os.mkdir(point)
        forbidding = [shutil.which("python3"), "-c", FORBID_FILTERS, QCOWFS]
        self.refused(*forbidding, "-o", "sandbox=on", image, point, names=["sandbox=on"], says="cannot be filtered")
        self.assertNotIn(point, harness.mounts())
        log = self.path("log")
        run(*forbidding, "-o", f"log={log}", image, point)
        self.assertRegex(harness.read_text(log), "warning: .*not confined: system calls cannot be filtered here")
        run(QCOWFS, "umount", point)

    def test_what_it_starts_with_is_not_kept_open(self):
        """The helper, which keeps its rights, has none of the daemon's descriptors, and ends with it."""
        daemon = self.mount(self.create(MiB))
        children = harness.read_text(f"/proc/{daemon.pid}/task/{daemon.pid}/children").split()
        self.assertEqual(len(children), 1)
        held = {os.readlink(f"/proc/{children[0]}/fd/{name}").split(":")[0]
                for name in os.listdir(f"/proc/{children[0]}/fd")}
        self.assertEqual(held, {"/dev/null", "socket"})
        os.kill(daemon.pid, signal.SIGKILL)
        harness.wait_for(lambda: not harness.is_running(int(children[0])), 10)
        run("umount", daemon.point)

    def test_without_the_helper_a_signal_still_stores_everything(self):
        image, twin = self.create(8 * MiB), self.twin(8 * MiB)
        mount = foreground.Foreground(self, image, self.folder_for("point"))
        for disk in (mount.disk, twin):
            harness.write_at(disk, 0, content.mixed(4 * MiB, 1))
        pid = mount.process.pid
        os.kill(int(harness.read_text(f"/proc/{pid}/task/{pid}/children").split()[0]), signal.SIGKILL)
        mount.process.terminate()
        self.assertEqual(mount.process.wait(60), 0, mount.said())
        self.assertIn("cannot unmount: the helper process is gone", mount.said())
        foreground.detach(mount.point)
        self.judge(image, twin)

    def folder_for(self, name):
        os.mkdir(self.path(name))
        return self.path(name)


# A filter that forbids filters: seccomp(2) and prctl(PR_SET_SECCOMP) answer EPERM to the program it executes.
FORBID_FILTERS = r"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
refuse, allow = op(6, 0, 0, 0x00050001), op(6, 0, 0, 0x7fff0000)
program = (op(0x20, 0, 0, 0) + op(0x15, 3, 0, 317) +             # seccomp: refuse
           op(0x15, 0, 3, 157) +                                 # prctl
           op(0x20, 0, 0, 16) + op(0x15, 0, 1, 22) + refuse +    # PR_SET_SECCOMP: refuse
           allow)
buffer = ctypes.create_string_buffer(program)
class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
fprog = Program(len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(fprog)) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"""


class Temptation(harness.MountCase):
    """What succeeds without the sandbox fails in it: in the strand, in the workers, and in those that came later."""

    NOT_FOR_CONFINED = {"open", "open-by-folder", "fork", "data-into-code", "internet-stream", "signal", "execute"}

    def setUp(self):
        super().setUp()
        self.assertTrue(TEMPTATION, "QCOWFS_TEMPTATION names the library to be preloaded")

    def tempt(self, *options):
        """{thread: {attempt: errno}} of a daemon at work."""
        image, twin = self.create(16 * MiB, name=f"disk{len(options)}.qcow2"), self.twin(16 * MiB)
        point = self.path(f"point{len(options)}")
        os.mkdir(point)
        results = self.path(f"results{len(options)}")
        content.write_file(results, b"")
        mount = foreground.Foreground(self, image, point, *options,
                                      environment={"LD_PRELOAD": TEMPTATION, "TEMPTED_RESULTS": results})
        os.setxattr(mount.disk, WORKERS, b"6")
        for number, thread in enumerate(threads(mount.process.pid)):
            for disk in (mount.disk, twin):
                harness.write_at(disk, number * MiB, content.mixed(MiB, number))
            signal_thread(mount.process.pid, thread, signal.SIGUSR2)
            harness.wait_for(lambda: harness.read_text(results).count(" done ") == number + 1, 30)
        harness.fsync(mount.disk)
        self.assert_same_bytes(mount.disk, twin)
        mount.unmount()
        self.judge(image, twin)
        found = {}
        for line in harness.read_text(results).splitlines():
            thread, attempt, error = line.split()
            found.setdefault(int(thread), {})[attempt] = int(error)
        return found

    def test_nothing_succeeds(self):
        confined = self.tempt()
        self.assertGreater(len(confined), 9)
        for thread, attempts in confined.items():
            self.assertEqual(attempts.pop("done"), 0)
            self.assertGreater(len(attempts), 40)
            self.assertEqual({attempt: error for attempt, error in attempts.items() if error != errno.EPERM}, {},
                             f"thread {thread}")
        free = self.tempt("sandbox=off")
        for attempts in free.values():
            refused = {attempt for attempt, error in attempts.items() if error == errno.EPERM}
            self.assertFalse(refused & self.NOT_FOR_CONFINED, "then this test shows nothing")


class SetUserId(harness.MountCase):
    def test_it_does_not_run_with_anothers_rights(self):
        """With the setuid bit it would open for anybody what only its owner may."""
        if os.geteuid() != 0:
            self.lacks("a program of root's with the setuid bit needs root")
        image = self.create(MiB)
        os.chmod(self.folder, 0o755)
        program = shutil.copy(QCOWFS, self.path("program"))
        point = self.path("point")
        os.mkdir(point)
        for mode in (stat.S_ISUID, stat.S_ISGID):
            os.chmod(program, mode | 0o755)
            for words in ([image, point], ["info", image], ["--version"]):
                self.refused(*harness.AS_NOBODY, program, *words, says="setuid or setgid.*chmod")


if __name__ == "__main__":
    harness.main()
