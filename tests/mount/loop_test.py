#!/usr/bin/env -S python3 -B
"""Loop devices on the disk: nothing waits for itself, and what a file system on one holds is not lost at a signal."""

import os
import signal

import content
import harness
from harness import MiB, QCOWFS, run

DISK_SIZE = 128 * MiB


class LoopCase(harness.MountCase):
    def file_system(self, disk, make=("mkfs.ext4", "-q", "-F")):
        """A new one, on a loop device: (device, folder)."""
        run(*make, disk)
        device = self.loop_device(disk)
        return device, self.loop_mount(device)

    def end(self, device, folder):
        run("umount", folder)
        self.detach(device)


class InUse(LoopCase):
    def test_a_signal_stores_what_the_file_system_holds(self):
        """In memory, not asked for by anybody when the daemon is told to end."""
        for options in ([], ["writeback_cache"]):
            with self.subTest(options=options):
                data = content.mixed(20 * MiB, len(options))
                image = self.create(DISK_SIZE, name=f"disk-{len(options)}.qcow2")
                daemon = self.mount(image, *options)
                device, folder = self.file_system(daemon.disk)
                content.write_file(os.path.join(folder, "file"), data)
                os.kill(daemon.pid, signal.SIGTERM)
                harness.wait_for(lambda: not harness.is_running(daemon.pid), 60)
                daemon.must_be_over()
                run("umount", folder, expect=None)  # its disk is gone
                self.detach(device)
                self.check(image)

                daemon = self.mount(image)
                device = self.loop_device(daemon.disk)
                folder = self.loop_mount(device)
                with open(os.path.join(folder, "file"), "rb") as file:
                    self.assertEqual(file.read(), data)
                self.end(device, folder)
                daemon.unmount()

    def test_the_device_that_is_in_the_way_is_named(self):
        daemon = self.mount(self.create(DISK_SIZE))
        device, folder = self.file_system(daemon.disk)
        done = self.refused(QCOWFS, "umount", daemon.point, names=[daemon.point], says=f"still in use by {device} ")
        self.assertIn(f"losetup -d {device})", done.stderr)
        self.end(device, folder)
        daemon.unmount()


class NothingWaitsForItself(LoopCase):
    def test_an_image_on_a_file_system_on_another_image(self):
        outer_image = self.create(DISK_SIZE, name="outer.qcow2")
        outer = self.mount(outer_image)
        device, folder = self.file_system(outer.disk)
        inner_image = os.path.join(folder, "inner.qcow2")
        run(QCOWFS, "create", inner_image, 64 * MiB)
        inner = self.mount(inner_image)
        data = content.mixed(30 * MiB, 3)
        inner_device, inner_folder = self.file_system(inner.disk)
        content.write_file(os.path.join(inner_folder, "file"), data)
        run("sync", "-f", inner_folder)
        with open(os.path.join(inner_folder, "file"), "rb") as file:
            self.assertEqual(file.read(), data)
        self.end(inner_device, inner_folder)
        inner.unmount()
        self.check(inner_image)
        self.end(device, folder)
        outer.unmount()
        self.check(outer_image)


if __name__ == "__main__":
    harness.main()
