#!/usr/bin/env -S python3 -B
"""The Debian package: built, judged, installed in a Debian 12 that has nothing else, used there, and removed."""

import os
import re
import shutil

import house
from house import BUILD, ROOT, run

import content  # of the tests of mounts
import harness

MiB = harness.MiB
FOLDER = os.path.join(BUILD, "packaging-tests")
SYSTEM = os.path.join(FOLDER, "debian")

# Runs in a mount and process namespace of its own: when it ends, nothing that it mounted or started is left.
ENTER = """
set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t tmpfs tmpfs tmp
exec chroot . sh -euxc "$2"
"""

# Each: how it is mounted, as root of the system, where the image is /srv/disk.qcow2 and the disk at /mnt.
MOUNTS = {
    "by the helper": "mount.qcowfs /srv/disk.qcow2 /mnt",
    "by the helper as mount(8) calls it": "mount.qcowfs /srv/disk.qcow2 /mnt -n -v -s -o rw,nofail,noauto -t qcowfs",
    "by mount -t": "mount -t qcowfs /srv/disk.qcow2 /mnt -o level=3,allow_other",
    "by mount -t fuse.qcowfs": "mount -t fuse.qcowfs /srv/disk.qcow2 /mnt -o level=3,allow_other",
    "by fstab": """
        options=defaults,nofail,_netdev,auto,rw,x-systemd.device-timeout=3,x-own.word,user,level=2,nodev
        echo "/srv/disk.qcow2 /mnt qcowfs $options 0 0" >/etc/fstab
        mount -a
        mount -a""",
    "by fstab, fuse.qcowfs": """
        echo '/srv/disk.qcow2 /mnt fuse.qcowfs defaults,nofail,_netdev,x-own.word 0 0' >/etc/fstab
        mount -a""",
}


def build_package():
    """The path of the package, of what BUILD holds."""
    done = run(os.path.join(ROOT, "packaging/build-deb"), "--packed", BUILD, os.path.join(FOLDER, "package"),
               timeout=600)
    return done.stdout.strip()


def make_system():
    """A Debian 12 with no more than what every one has, and apt."""
    shutil.rmtree(SYSTEM, ignore_errors=True)
    run("mmdebstrap", "--variant=minbase", "--include=mount", "--aptopt=Acquire::Languages \"none\"",
        "--skip=cleanup/apt", "bookworm", SYSTEM, timeout=600)
    run("mknod", "--mode=666", os.path.join(SYSTEM, "dev/fuse"), "c", "10", "229")


class Package(harness.MountCase):
    @classmethod
    def setUpClass(cls):
        os.makedirs(FOLDER, exist_ok=True)
        cls.package = build_package()

    def in_system(self, script, **options):
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c",
                   ENTER, "sh", SYSTEM, script, timeout=300, **options)

    def test_it_is_built_of_what_the_program_is_built_of(self):
        needed = re.findall(r"(?m)^(\S+-dev)\b", harness.read_text(os.path.join(ROOT, "packaging/packages")))
        self.assertIn("libfuse3-dev", needed)
        control = harness.read_text(os.path.join(ROOT, "packaging/debian/control")).partition("\n\n")[0]
        self.assertLessEqual(set(needed), set(re.findall(r"(?m)^ ([^ ,]+)", control)))

    def test_lintian(self):
        done = run("lintian", "--allow-root", "--fail-on", "error,warning", self.package, timeout=300, expect=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_is_in_it(self):
        names = {line.split()[5] for line in run("dpkg-deb", "--contents", self.package).stdout.splitlines()}
        for name in ("bin/qcowfs", "sbin/mount.qcowfs", "sbin/umount.fuse.qcowfs", "share/man/man1/qcowfs.1.gz",
                     "share/man/man8/mount.qcowfs.8.gz", "share/man/man8/umount.fuse.qcowfs.8.gz",
                     "share/bash-completion/completions/qcowfs",
                     "share/zsh/vendor-completions/_qcowfs", "share/fish/vendor_completions.d/qcowfs.fish",
                     "lib/systemd/system/qcowfs@.service", "share/doc/qcowfs/README.md.gz",
                     "share/doc/qcowfs/copyright", "share/doc/qcowfs/changelog.gz"):
            self.assertIn("./usr/" + name, names)
        self.assertIn("./etc/qcowfs/example.conf", names)
        self.assertFalse([name for name in names if name.startswith(("./usr/local", "./work", "./home"))])

    def test_from_installation_to_removal(self):
        if os.geteuid() != 0:
            self.lacks("another system's root needs root")
        make_system()
        self.addCleanup(shutil.rmtree, SYSTEM)
        before = self.files()
        shutil.copy(self.package, os.path.join(SYSTEM, "srv/qcowfs.deb"))
        install = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install /srv/qcowfs.deb"
        self.in_system(install)
        self.in_system("qcowfs --version; ! ldd /usr/bin/qcowfs | grep 'not found'")
        unit = harness.read_text(os.path.join(SYSTEM, "usr/lib/systemd/system/qcowfs@.service"))
        self.assertIn("ExecStart=/usr/bin/qcowfs ", unit)
        for how, commands in MOUNTS.items():
            with self.subTest(how=how):
                self.use(commands, "qcowfs umount /mnt")
        self.use(MOUNTS["by mount -t"], "umount -v /mnt")
        self.use(MOUNTS["by fstab"], "umount -a -t fuse.qcowfs")
        self.use_as_user()
        self.lazy_unmount()
        self.in_system("dpkg --purge qcowfs")
        left = {name for name in self.files() - before if "qcowfs" in name}
        self.assertEqual(left, {"srv/qcowfs.deb"})

    def files(self):
        """Its own: links may lead out of it."""
        return {os.path.relpath(os.path.join(folder, name), SYSTEM)
                for folder, folders, names in os.walk(SYSTEM) for name in folders + names}

    def use(self, mount, unmount):
        """Mounts, writes, unmounts, when the daemon must have ended; judges the image from outside."""
        image = os.path.join(SYSTEM, "srv/disk.qcow2")
        data = content.write_file(os.path.join(SYSTEM, "srv/data"), content.mixed(4 * MiB, 1))
        self.in_system(f"""
            qcowfs create /srv/disk.qcow2 4m
            {mount}
            grep -q ' /mnt fuse.qcowfs ' /proc/mounts
            cp /srv/data /mnt/disk.raw
            cmp /srv/data /mnt/disk.raw
            {unmount}
            ! cat /proc/[0-9]*/comm 2>/dev/null | grep qcowfs || exit 1
            ! grep -q ' /mnt ' /proc/mounts || exit 1""")
        self.judge(image, data)
        os.unlink(image)

    def use_as_user(self):
        """A line with `user`: mount(8) gives root up before it runs the helper, which then needs fusermount3."""
        self.in_system("""
            ln -s ../proc/self/mounts /etc/mtab  # as every system has it that was booted; fusermount3 reads it
            useradd --create-home ann
            cd /home/ann
            su ann -c 'qcowfs create disk.qcow2 4m && mkdir disk'
            echo '/home/ann/disk.qcow2 /home/ann/disk qcowfs noauto,user 0 0' >/etc/fstab
            su ann -c 'mount /home/ann/disk && echo written >/home/ann/disk/disk.raw && umount /home/ann/disk'
            ! cat /proc/[0-9]*/comm 2>/dev/null | grep qcowfs || exit 1
            qcowfs check disk.qcow2
            userdel --remove ann
            rm /etc/mtab""")


    def lazy_unmount(self):
        """Its point is not to wait: the disk is still in use."""
        self.in_system("""
            qcowfs create /srv/disk.qcow2 4m
            mount -t qcowfs /srv/disk.qcow2 /mnt
            exec 3<>/mnt/disk.raw
            ! umount /mnt || exit 1
            umount -l /mnt
            ! grep -q ' /mnt ' /proc/mounts || exit 1
            echo written >&3
            exec 3>&-
            while cat /proc/[0-9]*/comm 2>/dev/null | grep qcowfs; do sleep 0.1; done
            qcowfs convert -O raw /srv/disk.qcow2 - | grep -a written
            rm /srv/disk.qcow2""")


if __name__ == "__main__":
    house.main()
