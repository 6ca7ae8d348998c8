#!/usr/bin/env -S python3 -B
"""What cannot be done is said in one line that names the thing, the reason and the way out."""

import contextlib
import json
import os
import shutil
import subprocess

import content
import damage
import harness
from harness import MiB, QCOWFS, run


class AdviceCase(harness.MountCase):
    def folder_named(self, name):
        folder = self.path(name)
        os.mkdir(folder)
        self.addCleanup(lambda: folder in harness.mounts() and run(QCOWFS, "umount", folder))
        return folder

    def file_system(self, name, kind, options="mode=755"):
        """A small file system of its own, for what a host may lack."""
        if os.geteuid() != 0:
            self.lacks("only root can mount a file system")
        folder = self.path(name)
        os.mkdir(folder)
        run("mount", "-t", kind, "-o", options, kind, folder)
        self.addCleanup(run, "umount", folder)
        return folder

    def elsewhere(self, changes, *command):
        """The command line for a mount namespace of its own with `changes`, shell commands, made to it."""
        if os.geteuid() != 0:
            self.lacks("only root can make a mount namespace")
        quoted = " ".join(f"'{word}'" for word in command)
        return ["unshare", "--mount", "sh", "-c", f"{changes} && exec {quoted}"]


class Machine(AdviceCase):
    def test_no_device(self):
        command = self.elsewhere("mount -t tmpfs none /dev", QCOWFS, self.create(MiB), self.folder_named("point"))
        self.refused(*command, names=[self.path("point")], says="no /dev/fuse.*modprobe fuse")

    def test_a_device_without_a_driver(self):
        command = self.elsewhere("mount -t tmpfs -o dev none /dev && mknod /dev/fuse c 10 251", QCOWFS,
                                 self.create(MiB), self.folder_named("point"))
        self.refused(*command, says="kernel has no FUSE.*modprobe fuse")

    def as_stranger(self, changes):
        """Another user's mount; `changes` may use $HELPERS, where setpriv lies too."""
        image = self.create(MiB)
        point = self.folder_named("point")
        for path, mode in ((self.folder, 0o755), (image, 0o666), (point, 0o777)):
            os.chmod(path, mode)
        helpers = self.folder_named("helpers")
        if os.geteuid() == 0 and run("setpriv", "--reuid=65534", QCOWFS, "--version", expect=None).returncode != 0:
            self.lacks("another user cannot reach the program in this folder")
        shutil.copy(shutil.which("setpriv"), helpers)
        return self.elsewhere(changes, os.path.join(helpers, "setpriv"), "--reuid=65534", "--regid=65534",
                              "--clear-groups", QCOWFS, image, point)

    def test_no_permission_for_the_device(self):
        command = self.as_stranger("mount -t tmpfs -o dev none /dev && mknod -m 600 /dev/fuse c 10 229")
        self.refused(*command, says="no permission to open /dev/fuse; .*(group|--device)")

    def test_no_fusermount(self):
        command = self.as_stranger("mount -t tmpfs -o dev,mode=755 none /dev && mknod -m 666 /dev/fuse c 10 229 && "
                                   "mknod -m 666 /dev/null c 1 3 && mount -t tmpfs -o mode=755 none /usr/bin")
        self.refused(*command, says="fusermount3 is missing.*install the package fuse3")

    def test_no_right_to_mount(self):
        command = self.elsewhere("true", "setpriv", "--bounding-set=-sys_admin", QCOWFS, self.create(MiB),
                                 self.folder_named("point"))
        self.refused(*command, says="not permitted; .*CAP_SYS_ADMIN")


class MountPoints(AdviceCase):
    def test_missing(self):
        missing = self.path("missing")
        self.refused(QCOWFS, self.create(MiB), missing, names=[missing], says=f"no such .*mkdir {missing}")

    def test_busy(self):
        daemon = self.mount(self.create(MiB))
        other = self.create(MiB, name="other.qcow2")
        self.refused(QCOWFS, other, daemon.point, names=[daemon.image], says=f"busy.*qcowfs umount {daemon.point}")
        daemon.unmount()

    def test_not_empty(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        content.write_file(os.path.join(point, "a"), b"here")
        for options, lines in (([], 1), (["-o", "nonempty"], 0)):
            done = run(QCOWFS, *options, image, point)
            self.assertEqual(len(done.stderr.splitlines()), lines, done.stderr)
            self.assertEqual("hidden" in done.stderr and "-o nonempty" in done.stderr, lines == 1)
            self.assertEqual(os.listdir(point), ["disk.raw"])
            run(QCOWFS, "umount", point)
        self.assertEqual(os.listdir(point), ["a"])


class Images(AdviceCase):
    def test_a_mounted_one_names_who_has_it(self):
        daemon = self.mount(self.create(MiB))
        point = self.folder_named("other")
        says = rf"in use by qcowfs \(process {daemon.pid}\); .*unmount"
        for command in ([QCOWFS, daemon.image, point], [QCOWFS, "snapshot", "create", daemon.image, "a"]):
            self.refused(*command, names=[daemon.image], says=says)
        daemon.unmount()

    def test_one_that_qemu_has_names_who_has_it(self):
        image = self.create(MiB)
        holder = subprocess.Popen(["qemu-io", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.assertEqual(holder.stdout.read(8), b"qemu-io>")
        self.refused(QCOWFS, image, self.folder_named("point"), names=[image],
                     says=rf"in use by qemu-io \(process {holder.pid}\); close")
        holder.communicate(b"quit\n", timeout=30)

    def test_missing(self):
        missing = self.path("missing.qcow2")
        self.refused(QCOWFS, missing, self.folder_named("point"), names=[missing], says="create=SIZE")

    def test_no_direct_io(self):
        host = self.file_system("host", "ramfs")
        image = os.path.join(host, "disk.qcow2")
        run(QCOWFS, "create", image, "1M")
        self.refused(QCOWFS, "-o", "direct=on", image, self.folder_named("point"), names=[image],
                     says="refuses direct I/O; use -o direct=auto")
        self.mount(image).unmount()

    def test_leaks_on_a_full_disk(self):
        """They cannot be given back there, and are no reason not to write."""
        with open(self.create(MiB), "rb") as file:
            image = damage.Image(file.read())
        leaked = len(image.data) // image.cluster
        image.data.extend(bytes(image.cluster))
        image.put(">H", image.refcount_blocks()[0] + 2 * leaked, 1)
        host = self.file_system("host", "tmpfs", "size=8m")
        path = content.write_file(os.path.join(host, "disk.qcow2"), bytes(image.data))
        with contextlib.suppress(OSError), open(os.path.join(host, "filler"), "wb", buffering=0) as filler:
            while filler.write(bytes(4096)) > 0:
                pass
        log = self.path("log")
        daemon = self.mount(path, f"log={log}")
        self.assertRegex(harness.read_text(log), "warning: .*1 leaked clusters stay: .*No space left")
        os.unlink(os.path.join(host, "filler"))
        harness.write_at(daemon.disk, 0, b"written")
        daemon.unmount()
        self.assertEqual(json.loads(run("qemu-img", "check", "--output=json", path, expect=3).stdout)["leaks"], 1)

    def test_a_full_disk(self):
        host = self.file_system("host", "tmpfs", "size=300k")
        says = "no space left on device; free some space"
        image = os.path.join(host, "disk.qcow2")
        self.refused(QCOWFS, "create", "--preallocation", "full", image, "1M", names=[image], says=says)
        run("dd", "if=/dev/zero", f"of={os.path.join(host, 'filler')}", "bs=4k", expect=1)
        self.refused(QCOWFS, "-o", "create=1M", image, self.folder_named("point"), names=[image], says=says)
        noise = content.write_file(self.path("noise"), content.noise(MiB, 1))
        self.refused(QCOWFS, "convert", noise, image, names=[image], says=says)
        self.assertEqual(os.listdir(host), ["filler"])


class Words(AdviceCase):
    def test_a_mistyped_one_suggests_the_nearest(self):
        image = self.create(MiB)
        point = self.folder_named("point")
        for option, meant in (("cachesize=16m", "cache_size"), ("allow_ohter", "allow_other"), ("levle=3", "level"),
                              ("comit_interval=3", "commit_interval"), ("read_only", "direct")):
            done = self.refused(QCOWFS, "-o", option, image, point, names=[option])
            self.assertEqual(f"did you mean {meant}?" in done.stderr, option != "read_only", done.stderr)
        for words, meant in ((["--forground", image, point], "--foreground"), (["info", "--jsno", image], "--json"),
                             (["create", "--cluster-sise", "4k", image, "1M"], "--cluster-size")):
            self.refused(QCOWFS, *words, says=f"did you mean {meant}[?]")
        for words, meant in ((["chek", image], "check"), (["snapshoot", "list", image], "snapshot"),
                             (["unmount", point], "umount"), (["inof", image, "--json"], "info")):
            self.refused(QCOWFS, *words, says=f"did you mean (the command )?qcowfs {meant}[?]")
        done = self.refused(QCOWFS, self.path("picture.qcow2"), point)
        self.assertNotIn("did you mean", done.stderr)


if __name__ == "__main__":
    harness.main()
