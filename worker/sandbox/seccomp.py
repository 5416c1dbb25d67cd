"""A seccomp filter: system calls that an audit never needs fail with EPERM. Linux on x86-64 and 64-bit Arm.

It refuses what the other walls leave open: Unix sockets of other processes (a network namespace does not cover them),
new processes (one could outlive the sandbox), every way to signal or steer another process, changed modes and owners of
files (Landlock does not cover those), and the doors to the kernel that sandboxes are left by. It is a list of what is
refused, not of what is allowed: torch and CUDA make too many calls to list.

Older kernels have a Landlock that knows less: no signals before version 6, no truncation before version 3. So this
filter refuses those by itself, and no promise depends on a version of Landlock.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html; a program is classic BPF over
``struct seccomp_data``.
"""

import ctypes
import errno
import os
import platform
import socket
import sys
from typing import Final

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_UNKNOWN: Final = 0x00050000 | errno.ENOSYS

_LOAD: Final = 0x20
_RETURN: Final = 0x06
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_BITS: Final = 0x45
_AND: Final = 0x54
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000
_TYPE_OF_SOCKET: Final = 0xF
_MAP_SHARED: Final = 0x01
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name: number on x86-64, on 64-bit Arm; None if it does not exist.
_REFUSED: Final[dict[str, tuple[int | None, int | None]]] = {
    # other processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "get_robust_list": (274, 100), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    # memory, queues and semaphores that belong to the machine, and stay when the sandbox has ended
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_notify": (244, 184),
    # other users and rights: a process that changes them also loses its death signal
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91),
    # the way out over a socket; io_uring makes system calls that no filter sees
    "connect": (42, 203), "io_uring_setup": (425, 425),
    # modes, owners and attributes of files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "open_by_handle_at": (304, 265),
    "truncate": (76, 45),
    # times of files, which the worker knows a checkpoint by, and being told of what others do with theirs: both take
    # any path
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    # a place in the machine's disk queues, of which all processes together have few; the kernel's log
    "io_setup": (206, 0), "syslog": (103, 116),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442),
    # parts of the kernel with a history
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "kexec_load": (246, 104), "init_module": (175, 105),
    "finit_module": (313, 273),
}  # fmt: skip

# Calls whose arguments name another process: allowed for this one alone, by its id or 0.
_OF_A_PROCESS: Final[dict[str, tuple[int, int]]] = {
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "move_pages": (279, 239),
}  # fmt: skip
# Arguments that are refused: the call's numbers, which argument, its values.
_REFUSED_ARGUMENTS: Final[dict[str, tuple[tuple[int, int], int, tuple[int, ...]]]] = {
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY: signals through a file, and to others who open it
    "fcntl": ((72, 25), 1, (8, 10, 15, 1024, 1026)),
    # FIOSETOWN, SIOCSPGRP, FIOASYNC: the same; TIOCSPGRP, TIOCSTI, TIOCSCTTY, TIOCNOTTY, TIOCSETD, TIOCLINUX: a
    # terminal that somebody else types at; FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR: attributes of files
    "ioctl": (
        (16, 29), 1,
        (0x8901, 0x8902, 0x5452, 0x5410, 0x5412, 0x540E, 0x5422, 0x5423, 0x541C, 0x40086602, 0x401C5820),
    ),
    # PR_SET_PDEATHSIG: the death signal stays as it was set; PR_SCHED_CORE: a place beside another process
    "prctl": ((157, 167), 0, (1, 62)),
}  # fmt: skip

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter)))


def refuse_system_calls(*, private_memory: bool = False) -> bool:
    """Put the filter up for this thread and all that it starts; return whether it stands.

    ``private_memory`` also refuses memory that no limit of this process counts (a GPU's driver needs some).
    ``no_new_privs`` must have been set. The process keeps threads, and signals to itself.
    """
    if not sys.platform.startswith("linux") or sys.byteorder != "little" or platform.machine() not in _ARCHITECTURES:
        return False
    instructions = program(platform.machine(), os.getpid(), private_memory=private_memory)
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    whole = _Program(len(instructions), ctypes.cast(filters, ctypes.POINTER(_Filter)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_MODE_FILTER)
    return bool(prctl(ctypes.c_int(_PR_SET_SECCOMP), mode, ctypes.byref(whole), zero, zero) == 0)


def program(machine: str, own_pid: int, *, private_memory: bool = False) -> list[Instruction]:
    """The filter for a kind of machine and the process that it is for."""
    arm = machine == "aarch64"
    instructions: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _REFUSE),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if not arm:
        instructions += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for on_intel, on_arm in _REFUSED.values():
        number = on_arm if arm else on_intel
        if number is not None:
            instructions += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    own, others = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)
    # The rest look at arguments: kill and tgkill of this process alone, limits and turns of nobody else, threads but no
    # processes, no sockets but those of one machine that have to connect before they say anything (CUDA's driver
    # listens on one that keeps packets apart, and does not start without it).
    for number in (129, 131) if arm else (62, 234):
        instructions += _when(number, [_argument(0), (_IF_EQUAL, 0, 1, own_pid), own, others])
    for numbers in _OF_A_PROCESS.values():
        of_own = [_argument(0), (_IF_EQUAL, 1, 0, 0), (_IF_EQUAL, 0, 1, own_pid), own, others]
        instructions += _when(numbers[arm], of_own)
    for numbers, index, values in _REFUSED_ARGUMENTS.values():
        refused = [step for value in values for step in ((_IF_EQUAL, 0, 1, value), others)]
        instructions += _when(numbers[arm], [_argument(index), *refused, own])
    instructions += _when(220 if arm else 56, [_argument(0), (_IF_BITS, 0, 1, _CLONE_THREAD), own, others])
    if private_memory:
        # RLIMIT_DATA counts private memory that may be written, and no stacks: not what is shared without a file, not a
        # file in memory, not a mapping that pretends to be a stack.
        shared = [
            _argument(3),
            (_IF_BITS, 3, 0, _MAP_GROWSDOWN),
            (_AND, 0, 0, _MAP_SHARED | _MAP_ANONYMOUS),
            (_IF_EQUAL, 1, 0, _MAP_SHARED | _MAP_ANONYMOUS),
            own,
            others,
        ]
        instructions += _when(222 if arm else 9, shared)
        for number in (279, 447) if arm else (319, 447):  # memfd_create, memfd_secret
            instructions += _when(number, [others])
    # What these two are asked lies in memory, where no filter looks; the C library then takes clone and openat.
    for number in (435, 437):
        instructions += _when(number, [(_RETURN, 0, 0, _UNKNOWN)])
    connected = [
        _argument(0),
        (_IF_EQUAL, 0, 5, socket.AF_UNIX),
        _argument(1),
        (_AND, 0, 0, _TYPE_OF_SOCKET),
        (_IF_EQUAL, 1, 0, socket.SOCK_STREAM),
        (_IF_EQUAL, 0, 1, socket.SOCK_SEQPACKET),
        own,
        others,
    ]
    instructions += _when(198 if arm else 41, connected)
    instructions += _when(56 if arm else 257, _truncating(2))
    if not arm:
        instructions += _when(2, _truncating(1))
    instructions.append((_RETURN, 0, 0, _ALLOW))
    return instructions


def _truncating(index: int) -> list[Instruction]:
    """Opens, with the flags in this argument, that would empty a file without the right to write to it."""
    own, others = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)
    to_write = [(_AND, 0, 0, os.O_ACCMODE), (_IF_EQUAL, 1, 0, os.O_WRONLY), (_IF_EQUAL, 0, 1, os.O_RDWR), own, others]
    return [_argument(index), (_IF_BITS, 1, 0, os.O_TRUNC), own, *to_write]


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """``body``, which returns, for one system call; other numbers pass it by. The number is loaded before and after."""
    return [(_IF_EQUAL, 0, len(body), number), *body]


def _argument(index: int) -> Instruction:
    """Load the lower half of an argument: ids, flags and families fit in it."""
    return (_LOAD, 0, 0, 16 + 8 * index)
