"""Binds the life of a child process to its parent's, where the system can do that."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child has to run between fork and exec so that it gets ``number`` when its parent is gone.

    The kernel counts the parent as gone when the *thread* that forked ends, so children are to be started from the main
    thread. None if the system has no such thing (only Linux has).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # the parent was gone before the call above
            os._exit(1)

    return bind
