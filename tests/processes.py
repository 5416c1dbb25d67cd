"""Starting processes that must not outlive the test run, even where that is killed."""

import sys

import psutil

_WRAPPER = """
import os, sys
from worker.sandbox.confinement import die_with_parent
die_with_parent()
os.execv(sys.argv[1], sys.argv[1:])
"""


def mortal(command: list[str]) -> list[str]:
    """The same command, for a process that the kernel kills when its parent dies (on Linux)."""
    return [sys.executable, "-c", _WRAPPER, *command]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
