"""The exit codes of ``backdoor-audit``."""

from enum import IntEnum


class Exit(IntEnum):
    """0 only if the audit succeeded and its verdict does not meet ``--fail-on``."""

    PASSED = 0
    VERDICT_MET = 1
    NOT_DONE = 2
    UNREACHABLE = 3
    USAGE = 4
    INTERRUPTED = 130
