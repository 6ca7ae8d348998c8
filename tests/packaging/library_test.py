#!/usr/bin/env -S python3 -B
"""The engine as a library: an installed tree is enough to build a program that writes to an image."""

import os

import house
from house import run

import content  # of the tests of mounts
import harness

MiB = harness.MiB


class Library(harness.MountCase):
    def test_the_example_writes_to_an_image(self):
        prefix = self.path("prefix")
        house.install(prefix)
        example = self.path("example")  # away from the project: nothing of it may be found by way of ..
        run("cp", "-r", os.path.join(house.ROOT, "packaging/example"), example)
        run("cmake", "-G", "Ninja", "-S", example, "-B", self.path("build"), f"-DCMAKE_PREFIX_PATH={prefix}",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror -O0")
        run("cmake", "--build", self.path("build"), timeout=600)
        program = self.path("build/write_to_image")

        image = self.create(4 * MiB)
        text = content.text(2 * MiB, 1).replace(b"\0", b" ")[:100000]
        run(program, image, text.decode("latin-1"))
        self.judge(image, content.write_file(self.path("twin"), text + bytes(4 * MiB - len(text))))
        self.refused(program, self.path("missing"), "text", names=["missing"], says="no such file")
        daemon = self.mount(image)
        self.refused(program, image, "text", names=[image], says="in use")
        daemon.unmount()

    def test_only_the_front_doors_are_installed(self):
        prefix = self.path("prefix")
        house.install(prefix)
        rooms = os.listdir(os.path.join(prefix, "include/qcowfs/qcow2"))
        self.assertIn("image.h", rooms)
        self.assertFalse({"disk.h", "host", "map", "flow"} & set(rooms))


if __name__ == "__main__":
    house.main()
