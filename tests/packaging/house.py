"""What the tests of packaging share, beside what they take from the tests of mounts."""

import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../mount"))

from harness import IN_CI, QCOWFS, ROOT, main, run  # noqa: E402  pylint: disable=wrong-import-position,unused-import

BUILD = os.path.dirname(QCOWFS)


def folder(case):
    """A new one, removed after the test."""
    path = tempfile.mkdtemp(prefix="qcowfs-", dir=os.environ.get("QCOWFS_TEST_DIR"))
    case.addCleanup(shutil.rmtree, path)
    return path


def lacks(case, obstacle):
    """The machine lacks something: a failure where nothing may be skipped."""
    if IN_CI:
        case.fail(f"cannot run here, and nothing may be skipped where CI=true: {obstacle}")
    case.skipTest(obstacle)


def install(prefix):
    """What `cmake --install` puts below `prefix`."""
    run("cmake", "--install", BUILD, "--prefix", prefix)


def open_fuse_to_users():
    """Where the machine's FUSE device is closed to ordinary users: root starts this program again with one of its own,
    in a mount namespace that ends with it."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        return
    script = """
        set -e
        folder=$(mktemp -d)
        mount -t tmpfs -o mode=755 tmpfs "$folder"
        mknod -m 666 "$folder/fuse" c 10 229
        mount --bind "$folder/fuse" /dev/fuse
        umount -l "$folder"
        rmdir "$folder"
        exec "$@" """
    private = ["unshare", "--mount", "--propagation", "private"]
    if run(*private, "true", expect=None).returncode == 0:
        os.execvp(private[0], [*private, "sh", "-c", script, "sh", sys.executable, "-B", *sys.argv])
