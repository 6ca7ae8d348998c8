#!/usr/bin/env -S python3 -B
"""What README.md shows is what happens: its session is repeated command by command and compared, its tasks are done,
and its way without root is gone by an ordinary user."""

import os
import re
import shutil
import subprocess

import content
import harness
from harness import MiB, QCOWFS, run

README = harness.read_text(os.path.join(harness.ROOT, "README.md"))
BLOCK = re.compile(r"(?:^ {4}.*\n|^\n(?= {4}))+", re.MULTILINE)
# Commands whose figures differ between machines and runs: sizes and shares of what several threads compressed.
VARYING = ("du ", "qemu-img check ", "qcowfs check ")
FIGURE = re.compile(r"\b\d+(\.\d+)?[KMG]?(?![\w.])")


def section(title):
    """What stands below a heading."""
    return re.split(r"\n#+ ", README.split(f"{title}\n", 1)[1], maxsplit=1)[0]


def blocks(text):
    """The indented blocks, without their indentation."""
    return [re.sub(r"(?m)^ {4}", "", block).strip("\n") for block in BLOCK.findall(text)]


def session():
    """[(command, what it says)] of the first block of the file."""
    steps = re.split(r"(?m)^\$ ", blocks(README)[0])[1:]
    return [(step.split("\n", 1) + [""])[:2] for step in steps]


def comparable(command, said):
    said = re.sub(r"[ \t]+", " ", said).rstrip("\n")
    return FIGURE.sub("#", said) if command.startswith(VARYING) else said


class Readme(harness.MountCase):
    def setUp(self):
        super().setUp()
        self.place = self.path("place")
        os.mkdir(self.place)
        self.addCleanup(self.unmount_all)

    def unmount_all(self):
        for point in sorted(harness.mounts(), reverse=True):
            if point.startswith(self.place + "/"):
                run("umount", "-l", point, expect=None)

    def environment(self):
        """With the program just built as the only `qcowfs`."""
        folder = self.path("bin")
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "qcowfs")):
            os.symlink(QCOWFS, os.path.join(folder, "qcowfs"))
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LC_ALL": "C"}

    def shell(self, script):
        return subprocess.run(["bash", "-e", "-c", script], cwd=self.place, env=self.environment(), check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120 * harness.PATIENCE)

    def judge_all(self):
        self.assertEqual([point for point in harness.mounts() if point.startswith(self.place)], [])
        for name in os.listdir(self.place):
            if name.endswith(".qcow2"):
                self.check(os.path.join(self.place, name))

    def test_the_session(self):
        steps = session()
        self.assertGreater(len(steps), 10)
        for command, said in steps:
            with self.subTest(command=command):
                self.assertEqual(comparable(command, self.shell(command).stdout), comparable(command, said))
        self.judge_all()

    def test_the_tasks(self):
        tasks = blocks(section("## Ten tasks, two lines each"))
        self.assertEqual([len(task.split("\n")) for task in tasks], [2] * 10)
        loop_obstacle = harness.loop_obstacle()
        for task in tasks:
            if "-o loop" in task and loop_obstacle:
                print(f"not done: {loop_obstacle}: {task}")
                continue
            with self.subTest(task=task):
                self.prepare()
                done = self.shell(task)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.judge_all()

    def prepare(self):
        """What the tasks start from, new for each."""
        shutil.rmtree(self.place)
        os.mkdir(self.place)
        if not os.path.exists(self.path("start")):
            self.make_start()
        run("cp", "-r", f"{self.path('start')}/.", self.place)

    def make_start(self):
        start = self.path("start")
        for folder in ("mnt", "files", "tree"):
            os.makedirs(os.path.join(start, folder))
        content.write_file(os.path.join(start, "tree", "text"), content.text(2 * MiB, 1))
        raw, part = os.path.join(start, "disk.raw"), os.path.join(start, "ext4.img")
        for path, size in ((raw, 64 * MiB), (part, 16 * MiB)):
            content.write_file(path, b"")
            os.truncate(path, size)
        os.mkdir(self.path("within"))
        run("cp", "-r", os.path.join(start, "tree"), self.path("within"))
        run("mkfs.ext4", "-q", "-d", self.path("within"), raw)
        run("mkfs.ext4", "-q", part)
        parted = self.twin(64 * MiB, "parted.raw")
        table = content.write_file(self.path("table"), b"label: gpt\nsize=16M\n")
        run("sh", "-c", 'sfdisk -q "$0" <"$1"', parted, table)
        for source, target in ((raw, "disk.qcow2"), (parted, "parted.qcow2")):
            run(QCOWFS, "convert", "-f", "raw", source, os.path.join(start, target))

    def test_the_way_without_root(self):
        for program in ("fuse2fs", "fusermount3", "sfdisk"):
            if not shutil.which(program):
                self.lacks(f"{program} is not installed")
        script = blocks(section("### Partitions"))[-1]
        self.assertIn("fuse2fs", script)
        os.mkdir(os.path.join(self.place, "tree"))
        data = content.text(2 * MiB, 1)
        content.write_file(os.path.join(self.place, "tree", "text"), data)
        command = ["bash", "-e", "-c", script]
        if os.geteuid() == 0:
            command = as_nobody(self.place, command)
        run(*command, cwd=self.place, env=self.environment())
        self.judge_all()
        daemon = self.mount(os.path.join(self.place, "disk.qcow2"), "partition=1", "ro")
        found = self.path("found")
        run("debugfs", "-R", f"dump /tree/text {found}", os.path.join(daemon.point, "p1"))
        with open(found, "rb") as file:
            self.assertEqual(file.read(), data)
        daemon.unmount()


def as_nobody(folder, command):
    """`command` as an ordinary user, who owns `folder` and has a /dev/fuse that all may open, whatever the machine's is
    like."""
    for path in (folder, os.path.join(folder, "tree")):
        os.chown(path, 65534, 65534)
    parent = os.path.dirname(folder)
    os.chmod(parent, 0o755)
    prepare = 'mknod "$0" c 10 229 && chmod 666 "$0" && mount --bind "$0" /dev/fuse && exec "$@"'
    user = list(harness.AS_NOBODY)
    return ["unshare", "--mount", "sh", "-c", prepare, os.path.join(parent, "fuse"), *user, *command]


if __name__ == "__main__":
    harness.main()
