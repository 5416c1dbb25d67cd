"""Audit ids: ``audit_`` and 26 characters, time-ordered and random."""

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIX: Final = "audit_"
_RANDOM_BITS: Final = 80
_TIME_BITS: Final = 48
_LENGTH: Final = 26
_PATTERN: Final = re.compile(rf"{_PREFIX}[{_ALPHABET}]{{{_LENGTH}}}")


def new_audit_id() -> str:
    """Return a fresh id: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32, lowercase.

    Ids made in different milliseconds sort by time, so that the newest-first listing is a walk along the primary key.
    """
    milliseconds = time.time_ns() // 1_000_000 & (1 << _TIME_BITS) - 1
    number = milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = [_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH))]
    return _PREFIX + "".join(digits)


def is_audit_id(text: str) -> bool:
    """Say whether ``text`` has the form of an audit id."""
    return _PATTERN.fullmatch(text) is not None
