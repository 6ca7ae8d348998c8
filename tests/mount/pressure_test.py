#!/usr/bin/env -S python3 -B
"""Where everything stops for want of memory or of somebody to run it: it goes on afterwards, and nothing is lost."""

import os
import re
import shlex
import signal
import subprocess
import threading
import time

import content
import foreground
import harness
from harness import MiB, QCOWFS, run

LIMIT = 96 * MiB
CACHE_SIZE = 16 * MiB
FILE_SIZE = 3 * LIMIT
CAP_SYS_RESOURCE = 24


class ControlGroup:
    """A group of processes with a limit of memory, of either version. Throws OSError where none can be made."""

    def __init__(self, case, limit):
        obstacle = None
        for root, limit_name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            self.folder = os.path.join(root, f"qcowfs-test-{os.getpid()}-{case.next_number()}")
            try:
                if limit_name == "memory.max":
                    content.write_file(os.path.join(root, "cgroup.subtree_control"), b"+memory")
                os.mkdir(self.folder)
            except OSError as error:
                obstacle = obstacle or error
                continue
            case.addCleanup(os.rmdir, self.folder)
            content.write_file(os.path.join(self.folder, limit_name), b"%d" % limit)
            self.version = 1 if limit_name == "memory.limit_in_bytes" else 2
            return
        raise obstacle

    def command(self, *words):
        """Has these executed as one of the group."""
        tasks = os.path.join(self.folder, "cgroup.procs")
        return ["sh", "-c", f"echo $$ > {tasks} && exec {shlex.join(map(str, words))}"]


def may_be_io_flusher():
    capabilities = int(re.search(r"CapEff:\t(\w+)", harness.read_text("/proc/self/status")).group(1), 16)
    return bool(capabilities >> CAP_SYS_RESOURCE & 1)


class LittleMemory(harness.MountCase):
    """The kernel frees memory by writing, through the loop device, to the daemon, which itself is short of memory."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.lacks("control groups and loop devices need root")

    def group(self):
        """Nothing, and loud, where the machine lets nobody make one: some containers."""
        try:
            return ControlGroup(self, LIMIT)
        except OSError as error:
            print(f"NOT SHOWN: no control group can be made here: {error}")
            return None

    def write_through_a_loop_device(self, group, with_daemon):
        image = self.create(2 * FILE_SIZE, name=f"disk-{with_daemon}.qcow2")
        point = self.path(f"point-{with_daemon}")
        os.mkdir(point)
        command = [QCOWFS, "-o", f"cache_size={CACHE_SIZE}", image, point]
        run(*(group.command(*command) if with_daemon else command))
        self.addCleanup(lambda: point in harness.mounts() and run("umount", "-l", point))
        disk = os.path.join(point, os.path.basename(image).replace(".qcow2", ".raw"))
        run("mkfs.ext4", "-q", "-F", disk)
        device = self.loop_device(disk)
        folder = self.loop_mount(device)
        source = self.path("source")
        content.write_file(source, content.mixed(FILE_SIZE // 3, 1) * 3)
        copy = os.path.join(folder, "copy")
        for _ in range(2):
            run(*group.command("dd", f"if={source}", f"of={copy}", "bs=1M", "conv=fsync"), timeout=180)
        run(*group.command("cmp", source, copy), timeout=60)
        run("umount", folder)
        self.detach(device)
        run("fsck.ext4", "-fn", disk)
        run(QCOWFS, "umount", point)
        self.check(image)

    def test_of_the_writers(self):
        group = self.group()
        if group:
            self.write_through_a_loop_device(group, with_daemon=False)

    def test_of_the_daemon_too(self):
        """Version 1 has who is short of memory wait for writes, but for who may ask for PR_SET_IO_FLUSHER: README,
        Limits."""
        group = self.group()
        if group and group.version == 1 and not may_be_io_flusher():
            print("NOT SHOWN: in a control group of version 1, without CAP_SYS_RESOURCE, a daemon waits for itself")
        elif group:
            self.write_through_a_loop_device(group, with_daemon=True)


class Stopped(harness.MountCase):
    def test_a_daemon_that_was_stopped_goes_on(self):
        """As by a debugger, a terminal, or a machine that sleeps: amid writes and barriers, and amid an unmount."""
        image, twin = self.create(64 * MiB), self.twin(64 * MiB)
        point = self.path("point")
        os.mkdir(point)
        mount = foreground.Foreground(self, image, point)
        ended = threading.Event()
        written = []

        def write():
            while not ended.is_set():
                number = len(written)
                for disk in (mount.disk, twin):
                    harness.write_at(disk, number % 60 * MiB + 777, content.mixed(2 * MiB, number))
                harness.fsync(mount.disk)
                written.append(number)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                harness.wait_for(lambda before=len(written): len(written) > before + 1, 60)
                mount.process.send_signal(signal.SIGSTOP)
                time.sleep(1)
                before = len(written)
                time.sleep(0.5)
                self.assertEqual(len(written), before, "a stopped daemon served")
                mount.process.send_signal(signal.SIGCONT)
        finally:
            mount.process.send_signal(signal.SIGCONT)
            ended.set()
            writer.join()
        self.assert_same_bytes(mount.disk, twin)

        harness.write_at(mount.disk, 0, content.mixed(32 * MiB, 5))
        harness.write_at(twin, 0, content.mixed(32 * MiB, 5))
        mount.process.send_signal(signal.SIGSTOP)
        unmounting = subprocess.Popen([QCOWFS, "umount", point], stdin=subprocess.DEVNULL)
        self.addCleanup(unmounting.wait)
        time.sleep(1)
        self.assertIsNone(unmounting.poll(), "it ended before everything was stored")
        mount.process.send_signal(signal.SIGCONT)
        self.assertEqual((unmounting.wait(60), mount.process.wait(60)), (0, 0), mount.said())
        self.judge(image, twin)


if __name__ == "__main__":
    harness.main()
