"""Ties the lifetime of a child process to its parent's, if the system supports it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """The function that a child must run between fork and exec to receive ``number`` when its parent ends.

    The kernel considers the parent ended when the *thread* that forked ends, so start children from the main thread.
    None if the system does not support this (only Linux does).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # the parent had ended before the call above
            os._exit(1)

    return bind
