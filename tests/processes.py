"""Starting processes that must not outlive the test run, even where that is killed."""

import sys

_WRAPPER = """
import os, sys
from worker.confinement import die_with_parent
die_with_parent()
os.execv(sys.argv[1], sys.argv[1:])
"""


def mortal(command: list[str]) -> list[str]:
    """The same command, for a process that the kernel kills when its parent dies (on Linux)."""
    return [sys.executable, "-c", _WRAPPER, *command]
