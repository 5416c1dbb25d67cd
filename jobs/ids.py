"""Ids: a prefix that names the kind, and a ULID in lower case; and the text of random secrets."""

import hashlib
import re
import secrets
from typing import Final

from ulid import PureRandomPolicy, ULIDGenerator

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIX: Final = "audit_"
_ULID: Final = re.compile(rf"[{_ALPHABET}]{{26}}")
_SECRET_BITS: Final = 256


def new_audit_id() -> str:
    """Return a fresh id of an audit."""
    return new_id(_PREFIX)


def new_id(prefix: str) -> str:
    """Return ``prefix`` and a new ULID: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32.

    Ids made in different milliseconds sort by time, so that a newest-first listing is a walk along the primary key.
    Source: https://github.com/ulid/spec. The library's shared generator holds a lock, which a fork could leave locked;
    one generator per id holds none.
    """
    return prefix + str(ULIDGenerator(policy=PureRandomPolicy()).generate()).lower()


def derived_id(prefix: str, *parts: str) -> str:
    """Return ``prefix`` and 26 characters in the form of a ULID that are always the same for the same parts."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()) >> 126
    return prefix + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_secret() -> str:
    """Return 256 random bits as 52 characters of the same alphabet."""
    number = secrets.randbits(_SECRET_BITS)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(0, _SECRET_BITS, 5))


def is_id(text: str, prefix: str) -> bool:
    """Return whether ``text`` has the form of an id with this prefix."""
    return text.startswith(prefix) and _ULID.fullmatch(text[len(prefix) :]) is not None


def is_audit_id(text: str) -> bool:
    """Return whether ``text`` has the form of an audit id."""
    return is_id(text, _PREFIX)
