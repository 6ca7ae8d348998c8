#!/usr/bin/env -S python3 -B
"""An image that lies on a block device, with no file around it: as large as the device and no larger, whatever bytes
the device had before.

(data_test.py and kill_test.py run on block devices too: QCOWFS_DOOR.)
"""

import errno
import json
import os
import random

import content
import harness
from harness import KiB, MiB, QCOWFS, run, scaled

DISK_SIZE = 64 * MiB


class DeviceCase(harness.MountCase):
    def device(self, size, name="backing"):
        """A loop device over a file of noise, so that nothing on it is zero by chance."""
        with open(self.path(name), "wb") as file:
            file.write(random.Random(name).randbytes(size))
        return self.loop_device(self.path(name))

    def image_on(self, size, *options, name="backing"):
        device = self.device(size, name)
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, device, DISK_SIZE)
        return device

    def host_bytes(self, name="backing"):
        """What the device's file takes."""
        return os.stat(self.path(name)).st_blocks * 512


class Content(DeviceCase):
    def test_random_operations_equal_a_raw_twin(self):
        source = random.Random(7)
        for cluster_size in (4 * KiB, 64 * KiB):
            device = self.image_on(96 * MiB, "-o", f"cluster_size={cluster_size}", name=f"backing-{cluster_size}")
            twin = self.twin(DISK_SIZE)
            for _ in range(3):
                daemon = self.mount(device)
                for _ in range(scaled(120, 40)):
                    harness.change_at_random(source, (daemon.disk, twin), DISK_SIZE)
                daemon.unmount()
                self.judge(device, twin)
            run(QCOWFS, "compact", device)
            self.judge(device, twin)
            run(QCOWFS, "check", device)
            run(QCOWFS, "compare", device, twin)

    def test_snapshots_are_made_and_applied_there(self):
        device = self.image_on(32 * MiB)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(device)
        for target in (daemon.disk, twin):
            harness.write_at(target, MiB, content.mixed(3 * MiB, 1))
        daemon.unmount()
        run(QCOWFS, "snapshot", "create", device, "before")
        daemon = self.mount(device)
        harness.write_at(daemon.disk, 2 * MiB, content.mixed(3 * MiB, 2))
        daemon.unmount()
        self.check(device)
        run(QCOWFS, "snapshot", "apply", device, "before")
        self.judge(device, twin)
        run(QCOWFS, "snapshot", "delete", device, "before")
        self.judge(device, twin)

    def test_a_device_is_copied_from(self):
        device = self.image_on(32 * MiB)
        daemon = self.mount(device)
        harness.write_at(daemon.disk, MiB, content.mixed(3 * MiB, 1))
        daemon.unmount()
        run(QCOWFS, "convert", device, self.path("copy.qcow2"))
        run(QCOWFS, "compare", device, self.path("copy.qcow2"))
        self.check(self.path("copy.qcow2"))


class Space(DeviceCase):
    def fill(self, disk, twin, offset):
        """Writes what does not compress until there is no more space, and has that stored: where that was."""
        noise = random.Random(1)
        while offset < DISK_SIZE:
            data = noise.randbytes(512 * KiB)
            try:
                written = os.pwrite(disk, data, offset)
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                break
            harness.write_at(twin, offset, data[:written])
            offset += written
        os.fsync(disk)
        return offset

    def test_a_full_device_is_told_by_write_and_grows_when_the_device_does(self):
        device = self.image_on(20 * MiB)
        twin = self.twin(DISK_SIZE)
        daemon = self.mount(device)
        disk = os.open(daemon.disk, os.O_RDWR)
        try:
            end = self.fill(disk, twin, 0)
            self.assertGreater(end, 12 * MiB)
            self.assertLess(end, 20 * MiB)
            self.assert_same_bytes(daemon.disk, twin)

            os.truncate(self.path("backing"), 40 * MiB)
            run("losetup", "--set-capacity", device)
            grown = self.fill(disk, twin, end)
            self.assertGreater(grown, end + 12 * MiB)
            self.assertLess(grown, 40 * MiB)
        finally:
            os.close(disk)
        daemon.unmount()
        self.judge(device, twin)

    def test_what_the_disk_gives_up_is_discarded(self):
        device = self.image_on(48 * MiB)
        daemon = self.mount(device)
        harness.write_at(daemon.disk, 0, random.Random(2).randbytes(32 * MiB))
        daemon.unmount()
        full = self.host_bytes()
        daemon = self.mount(device)
        harness.punch(daemon.disk, 0, 28 * MiB)
        daemon.unmount()
        self.assertLess(self.host_bytes(), full - 24 * MiB)
        self.check(device)

    def test_the_end_of_the_image_is_that_of_its_refcounts(self):
        device = self.image_on(48 * MiB)
        daemon = self.mount(device)
        harness.write_at(daemon.disk, 0, random.Random(3).randbytes(5 * MiB))
        daemon.unmount()
        theirs = self.check(device)["image-end-offset"]
        ours = json.loads(run(QCOWFS, "check", "--json", device).stdout)["image-end-offset"]
        self.assertEqual(ours, theirs)
        self.assertLess(ours, 7 * MiB)


class Refused(DeviceCase):
    def test_what_somebody_else_uses(self):
        device = self.image_on(16 * MiB)
        self.mount(device)
        point = self.path("second")
        os.mkdir(point)
        self.refused(QCOWFS, device, point, names=[device], says="claimed")
        self.refused(QCOWFS, "-r", device, point, names=[device], says="in use")
        mkfs = run("mkfs.ext4", "-q", "-F", device, expect=None)
        self.assertNotEqual(mkfs.returncode, 0)

    def test_a_device_that_is_mounted(self):
        device = self.device(16 * MiB)
        run("mkfs.ext4", "-q", "-F", device)
        self.loop_mount(device)
        point = self.path("point")
        os.mkdir(point)
        self.refused(QCOWFS, device, point, names=[device], says="mounted")

    def test_what_is_no_image(self):
        device = self.device(MiB)
        point = self.path("point")
        os.mkdir(point)
        self.refused(QCOWFS, device, point, names=[device], says="qcow2")
        self.refused(QCOWFS, "/dev/null", point, names=["/dev/null"], says="neither a regular file nor a block device")
        self.refused(QCOWFS, "create", device, MiB, names=[device], says="qemu-img create -f qcow2")


if __name__ == "__main__":
    harness.main()
