"""W7: a file system with files on the disk, through a loop device, beside the same on a plain raw file."""

import contextlib
import os
import time

import contenders
import machine
from figure import Figure, Goal
from machine import Interrupts, run


@contextlib.contextmanager
def loop_device(path):
    device = None
    try:
        with Interrupts.held_off():
            device = run("losetup", "--find", "--show", path).stdout.strip()
        yield device
    finally:
        if device:
            with Interrupts.held_off():
                run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(device, folder):
    try:
        with Interrupts.held_off():
            os.mkdir(folder)
            run("mount", device, folder)
        yield
    finally:
        with Interrupts.held_off():
            if machine.is_mounted(folder):
                run("umount", folder)
            os.rmdir(folder)


def seconds_for_files(suite, disk):
    """mkfs, mount, cp -a and umount; the last makes everything durable."""
    folder = suite.path("files")
    for parent, _, names in os.walk(suite.data.tree):
        for name in names:
            machine.warm(os.path.join(parent, name))
    run("sync", "-f", suite.folder)
    started = time.monotonic()
    run("mkfs.ext4", "-q", "-F", disk)
    with loop_device(disk) as device:
        with mounted(device, folder):
            run("cp", "-a", suite.data.tree, folder)
    return time.monotonic() - started


def on_qcowfs(suite):
    image = suite.empty_image(suite.sizes.source)
    with suite.qcowfs(image) as server:
        seconds = seconds_for_files(suite, server.disk)
        run("e2fsck", "-f", "-n", server.disk)
    suite.remember_peak(server)
    contenders.judge(image)
    return {"seconds": seconds}


def on_raw(suite):
    path = suite.path("plain.raw")
    with open(path, "wb") as file:
        file.truncate(suite.sizes.source)
    try:
        return {"seconds": seconds_for_files(suite, path)}
    finally:
        os.unlink(path)


def w7(suite):
    words = f"mkfs.ext4, loop mount, cp -a of {suite.sizes.tree // 1_000_000} MB, umount"
    obstacle = machine.loop_obstacle(suite.folder)
    if obstacle:
        yield Figure("W7", words, skipped=obstacle)
        return
    raw, ours = suite.rounds("W7", {"raw file": lambda: on_raw(suite), "qcowfs": lambda: on_qcowfs(suite)})
    yield Figure("W7", words, "s", ours["seconds"], raw["seconds"], "raw file", Goal("<=", 1.5))
