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
