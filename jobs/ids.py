"""Ids: what they are of, and 26 characters, time-ordered and random; and the text of random secrets."""

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIX: Final = "audit_"
_RANDOM_BITS: Final = 80
_TIME_BITS: Final = 48
_LENGTH: Final = 26
_SECRET_BITS: Final = 256
_SECRET_LENGTH: Final = 52
_PATTERN: Final = re.compile(rf"[{_ALPHABET}]{{{_LENGTH}}}")


def new_audit_id() -> str:
    """Return a fresh id of an audit."""
    return new_id(_PREFIX)


def new_id(prefix: str) -> str:
    """Return ``prefix`` and 48 bits of milliseconds, then 80 random bits, in Crockford's base 32, lowercase.

    Ids made in different milliseconds sort by time, so that a newest-first listing is a walk along the primary key.
    """
    milliseconds = time.time_ns() // 1_000_000 & (1 << _TIME_BITS) - 1
    return prefix + _digits(milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS), _LENGTH)


def new_secret() -> str:
    """Return 256 random bits as 52 characters of the same alphabet."""
    return _digits(secrets.randbits(_SECRET_BITS), _SECRET_LENGTH)


def is_id(text: str, prefix: str) -> bool:
    """Say whether ``text`` has the form of an id with this prefix."""
    return text.startswith(prefix) and _PATTERN.fullmatch(text[len(prefix) :]) is not None


def is_audit_id(text: str) -> bool:
    """Say whether ``text`` has the form of an audit id."""
    return is_id(text, _PREFIX)


def _digits(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
