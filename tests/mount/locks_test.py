#!/usr/bin/env -S python3 -B
"""QEMU's locks: whoever has an image open for writing has it alone, and the other one says so in a line."""

import os
import subprocess

import content
import harness
from harness import MiB, QCOWFS, run

IN_USE = "lock|in use|another"


class Locks(harness.MountCase):
    def test_qemu_refuses_a_mounted_image(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        for command in (["info"], ["check"], ["resize", "2M"], ["snapshot", "-c", "one"], ["map"]):
            verb, *rest = command
            arguments = [image, *rest] if verb == "resize" else [*rest, image]
            done = run("qemu-img", verb, *arguments, expect=None)
            self.assertNotEqual(done.returncode, 0, command)
            self.assertIn("lock", done.stderr, command)
        done = run("qemu-io", "-c", "read 0 512", image, expect=None)
        self.assertIn("lock", done.stderr + done.stdout)
        run("qemu-img", "info", "-U", image)  # who asks to share it may look
        daemon.unmount()
        self.check(image)

    def test_a_second_mount_is_refused(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        other = self.path("other")
        os.mkdir(other)
        for options in ([], ["-r"]):
            self.refused(QCOWFS, *options, image, other, names=[image], says=IN_USE)
            self.assertNotIn(other, harness.mounts())
        harness.write_at(daemon.disk, 0, content.text(MiB, 1))
        daemon.unmount()
        self.judge(image, content.write_file(self.path("twin"), content.text(MiB, 1)))
        self.mount(image).unmount()

    def test_readers_share(self):
        image = self.create(MiB)
        first = self.mount(image, arguments=["-r"])
        second = self.mount(image, arguments=["-r"])
        run("qemu-img", "info", image)
        run("qemu-io", "-r", "-c", "read 0 512", image)
        other = self.path("other")
        os.mkdir(other)
        self.refused(QCOWFS, image, other, names=[image], says=IN_USE)
        done = run("qemu-io", "-c", "write 0 512", image, expect=None)
        self.assertIn("lock", done.stdout + done.stderr)
        second.unmount()
        first.unmount()

    def test_an_image_open_in_qemu_io_is_refused(self):
        image = self.create(MiB)
        before = run("sha256sum", image).stdout
        point = self.path("point")
        os.mkdir(point)
        holder = subprocess.Popen(["qemu-io", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.assertEqual(holder.stdout.read(8), b"qemu-io>")
        for options in ([], ["-r"]):
            self.refused(QCOWFS, *options, image, point, names=[image], says=IN_USE)
        holder.communicate(b"quit\n", timeout=30)
        self.assertNotIn(point, harness.mounts())
        self.assertEqual(run("sha256sum", image).stdout, before)
        self.mount(image).unmount()

    def test_an_image_open_in_qemu_storage_daemon_is_refused(self):
        image = self.create(MiB)
        export = content.write_file(self.path("export"), b"")
        point = self.path("point")
        os.mkdir(point)
        holder = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,filename={image},node-name=f", "--blockdev",
             "driver=qcow2,file=f,node-name=q", "--export",
             f"type=fuse,id=e,node-name=q,mountpoint={export},writable=on"], stdin=subprocess.DEVNULL)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.terminate)
        harness.wait_for(lambda: export in harness.mounts(), 20)
        self.refused(QCOWFS, image, point, names=[image], says=IN_USE)
        holder.terminate()
        holder.wait(30)
        self.mount(image).unmount()

    def test_a_killed_daemon_leaves_no_lock(self):
        image = self.create(MiB)
        daemon = self.mount(image)
        os.kill(daemon.pid, 9)
        harness.wait_for(lambda: not harness.is_running(daemon.pid), 20)
        run(*(["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]), daemon.point, expect=None)
        self.check(image)
        self.mount(image).unmount()


if __name__ == "__main__":
    harness.main()
