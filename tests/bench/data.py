"""The data: real files of this machine in an ext4 image, and the images that are made from it. Each is made once, when
a row first asks for it."""

import dataclasses
import functools
import os
import shutil

import contenders
from machine import GiB, KiB, MiB, Stop, TiB, run

SOURCES = ["/usr/lib", "/usr/share", "/usr/include", "/usr/bin"]
CLUSTER = 64 * KiB


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work a row is. Bytes, counts of 4 KiB writes, and seconds."""

    source: int  # the ext4 image
    files: int  # in it
    ones: int  # of 0xFF
    tree: int  # files for cp -a
    part_4k: int
    part_512: int
    random_writes: int
    synced_writes: int
    reading_s: int
    scattered: int
    scattered_disk: int
    free: int  # on the disk that the images are on


FULL = Sizes(source=1 * GiB, files=865_000_000, ones=1000 * MiB, tree=300_000_000, part_4k=256 * MiB,
             part_512=64 * MiB, random_writes=32768, synced_writes=2000, reading_s=5, scattered=1 * GiB,
             scattered_disk=8 * TiB, free=10 * GiB)
QUICK = Sizes(source=192 * MiB, files=150_000_000, ones=256 * MiB, tree=25_000_000, part_4k=24 * MiB,
              part_512=4 * MiB, random_writes=2048, synced_writes=200, reading_s=1, scattered=64 * MiB,
              scattered_disk=8 * TiB, free=2 * GiB)


def copy_real_files(folder, most):
    """Files of this machine, in a fixed order, until there are enough. The bytes they take in a file system."""
    left = most
    for source in SOURCES:
        for parent, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(parent, name)
                if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                    continue
                size = -(-os.path.getsize(path) // 4096) * 4096
                if size > left:
                    continue
                target = os.path.join(folder, path.lstrip("/"))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(path, target)
                left -= size
            if left < 4096:
                return most - left
    return most - left


class Data:
    def __init__(self, folder, sizes, program):
        self.folder = folder
        self.sizes = sizes
        self.program = program
        self.files_bytes = 0
        facts = os.statvfs(folder)
        if facts.f_bavail * facts.f_frsize < sizes.free:
            raise Stop(f"{folder}: the images take up to {sizes.free // GiB} GiB, which are not free (see --folder)")

    def path(self, name):
        return os.path.join(self.folder, name)

    @functools.cached_property
    def source(self):
        """A raw ext4 disk, full of real files."""
        raw, tree = self.path("source.raw"), self.path("source-tree")
        os.mkdir(tree)
        self.files_bytes = copy_real_files(tree, self.sizes.files)
        with open(raw, "wb") as file:
            file.truncate(self.sizes.source)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-d", tree, raw)
        shutil.rmtree(tree)
        return raw

    @functools.cached_property
    def tree(self):
        """A folder of real files."""
        tree = self.path("tree")
        os.mkdir(tree)
        copy_real_files(tree, self.sizes.tree)
        return tree

    @functools.cached_property
    def ones(self):
        path = self.path("ones.raw")
        with open(path, "wb") as file:
            for _ in range(self.sizes.ones // MiB):
                file.write(b"\xff" * MiB)
        return path

    @functools.cached_property
    def full(self):
        """The source with other pieces of it where it has nothing: every cluster of the disk holds data."""
        path = self.path("full.raw")
        zeros = bytes(CLUSTER)
        kept = []
        with open(self.source, "rb") as source, open(path, "wb") as target:
            while piece := source.read(CLUSTER):
                if piece != zeros[:len(piece)]:
                    kept.append(piece)
                    kept = kept[-512:]
                elif kept:
                    piece = kept.pop(0)
                    kept.append(piece)
                target.write(piece)
        return path

    def part(self, size):
        """The first bytes of the source, as a disk of their own."""
        path = self.path(f"part-{size}.raw")
        if not os.path.exists(path):
            with open(self.source, "rb") as source, open(path, "wb") as target:
                for _ in range(size // MiB):
                    target.write(source.read(MiB))
        return path

    @functools.cache
    def converted(self, compression):
        """The source as QEMU compresses it."""
        path = self.path(f"converted-{compression}.qcow2")
        run("qemu-img", "convert", "-c", "-W", "-m", os.cpu_count() or 1, "-f", "raw", "-O", "qcow2",
            "-o", f"compression_type={compression}", self.source, path)
        return path

    @functools.cached_property
    def filled(self):
        """`full` as qcowfs compresses it."""
        path = self.path("filled.qcow2")
        contenders.create(self.program, path, os.path.getsize(self.full))
        with contenders.Qcowfs(self.program, self.folder, path) as server:
            run("dd", f"if={self.full}", f"of={server.disk}", "bs=1M", "oflag=direct", "conv=notrunc,fsync")
        contenders.judge(path, self.full)
        return path

    @functools.cached_property
    def filled_uncompressed(self):
        """`full` in an ordinary qcow2 image."""
        path = self.path("filled-uncompressed.qcow2")
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.full, path)
        return path

    def copy(self, image):
        """For a row that changes it."""
        path = self.path("copy-of-" + os.path.basename(image))
        run("cp", "--sparse=always", image, path)
        return path
