"""Landlock: the kernel refuses every path that is not on a list. Linux 5.13 and newer; no privileges needed.

Source: https://docs.kernel.org/userspace-api/landlock.html. The numbers are those of ``linux/landlock.h``; what a
kernel does not know yet is left out. Only what is opened later is refused: descriptors that are open stay usable.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15

# Every right on files that a version knows is handled, and so refused where no rule gives it.
_KNOWN_SINCE: Final = ((1, (1 << 13) - 1), (2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_NET_SINCE: Final = 4
_NET: Final = 0b11  # binding and connecting TCP
_SCOPES_SINCE: Final = 6
_SCOPES: Final = 0b11  # abstract Unix sockets and signals

SINCE: Final = {"files": 1, "truncation": 3, "TCP": _NET_SINCE, "devices": 5, "signals": _SCOPES_SINCE}
"""What Landlock refuses, and from which of its versions on. Where it lacks one of these, seccomp refuses it alone."""

_READ: Final = _READ_FILE | _READ_DIR
_WRITE: Final = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)  # no links, sockets, FIFOs or devices
_DEVICE: Final = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
_OF_A_FILE: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


@dataclass(frozen=True)
class Reach:
    """What a sandbox may open; a folder stands for all that is below it.

    Attributes:
        readable: files and folders that may be read.
        writable: folders that may be read and changed.
        devices: device files that may be read, written and controlled.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The version of Landlock that the kernel offers; 0 if there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(_system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)), 0)


def features() -> dict[str, bool]:
    """What the Landlock of this kernel refuses; the names are those of ``SINCE``."""
    offered = version()
    return {name: offered >= since for name, since in SINCE.items()}


def restrict(reach: Reach) -> bool:
    """Refuse this thread, and all that it starts from now on, what is not within ``reach``; return whether that holds.

    Paths that are not there are left out. Nothing may be executed. Where the kernel knows how, TCP, signals to other
    processes and abstract sockets of others are refused as well. ``no_new_privs`` must have been set.
    """
    offered = version()
    if offered == 0:
        return False
    handled = sum(rights for since, rights in _KNOWN_SINCE if offered >= since)
    attributes = _Ruleset(handled, _NET if offered >= _NET_SINCE else 0, _SCOPES if offered >= _SCOPES_SINCE else 0)
    ruleset = _system_call(
        _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return False
    try:
        groups = ((reach.readable, _READ), (reach.writable, _WRITE), (reach.devices, _DEVICE))
        allowed = all(_allow(ruleset, paths, rights & handled) for paths, rights in groups)
        return allowed and _system_call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> bool:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = _Rule(rights if folder else rights & _OF_A_FILE, descriptor)
            arguments = (ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
            if _system_call(_ADD_RULE, ctypes.c_int(ruleset), *arguments) != 0:
                return False
        finally:
            os.close(descriptor)
    return True


def _system_call(number: int, *arguments: object) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(number), *arguments))
