"""API keys: who may call the API, and for what.

A key is ``ba_<id>_<secret>``. The id finds the row and is no secret; of the secret the row has its SHA-256 alone. A
slow password hash would add nothing: a secret has 256 random bits, so there is no list of likely ones to try, and each
request would pay for it. Nothing is kept in memory between calls: a revocation holds from the next request.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import structlog
from sqlalchemy import Connection, insert, select, update

from jobs.audits.submissions import check_name
from jobs.clock import Clock
from jobs.database.connections import Transact
from jobs.database.tables import api_keys as table
from jobs.errors import KeyNotFound
from jobs.ids import new_id, new_secret

Scope = Literal["audits:read", "audits:write", "models:write", "admin"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


_TOKEN: Final = re.compile(r"ba_([0-9a-hjkmnp-tv-z]{26})_([0-9a-hjkmnp-tv-z]{52})")
_NO_DIGEST: Final = "0" * 64

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class KeyRecord:
    """One key as the ledger knows it, without its secret. Timestamps are aware, in UTC."""

    id: str
    owner: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyRepository:
    """The keys of a ledger. Every method is one transaction, and may raise what the ledger raises."""

    def __init__(self, read: Transact, write: Transact, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock

    def create(
        self, *, owner: str, name: str, scopes: Iterable[Scope], lifetime_s: float | None = None
    ) -> tuple[KeyRecord, str]:
        """Create a key; return its record and its text, which cannot be read again.

        Raises:
            ValueError: no scope, an unknown one, a name that cannot be stored, or a lifetime that has ended.
        """
        check_name("owner", owner)
        check_name("name", name)
        wanted = frozenset(scopes)
        if not wanted or wanted - set(SCOPES):
            raise ValueError(f"scopes must be some of {', '.join(SCOPES)}")
        if lifetime_s is not None and lifetime_s <= 0:
            raise ValueError("a key must live longer than 0 seconds")
        key_id, secret = new_id("key_"), new_secret()

        def work(connection: Connection) -> KeyRecord:
            now = self._clock.read(connection).at
            row = {
                "id": key_id,
                "owner": owner,
                "name": name,
                "scopes": " ".join(scope for scope in SCOPES if scope in wanted),
                "digest": _digest(secret),
                "created_at": now,
                "expires_at": None if lifetime_s is None else now + timedelta(seconds=lifetime_s),
                "revoked_at": None,
            }
            connection.execute(insert(table).values(**row))
            return _record(row)

        record = self._write(work)
        log.info("key.created", key_id=key_id, scopes=sorted(wanted))
        return record, f"ba_{key_id.removeprefix('key_')}_{secret}"

    def list(self) -> tuple[KeyRecord, ...]:
        """Return every key, of all owners, newest first; those that have ended as well."""
        query = select(table).order_by(table.c.id.desc())
        return self._read(lambda connection: tuple(_record(row._asdict()) for row in connection.execute(query)))

    def revoke(self, key_id: str) -> None:
        """End a key now; one that was revoked before keeps its first time.

        Raises:
            KeyNotFound: there is none with this id.
        """

        def work(connection: Connection) -> None:
            known = connection.execute(select(table.c.id).where(table.c.id == key_id)).one_or_none()
            if known is None:
                raise KeyNotFound
            now = self._clock.read(connection).at
            query = update(table).where(table.c.id == key_id, table.c.revoked_at.is_(None))
            connection.execute(query.values(revoked_at=now))

        self._write(work)
        log.info("key.revoked", key_id=key_id)

    def check(self, token: str) -> KeyRecord | None:
        """Return the key whose text is ``token``; None if it is malformed, wrong, revoked or expired.

        The comparison takes as long for a wrong secret as for a right one, and is made for an unknown id, too.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        key_id, secret = f"key_{match[1]}", match[2]

        def work(connection: Connection) -> KeyRecord | None:
            found = connection.execute(select(table).where(table.c.id == key_id)).one_or_none()
            row = None if found is None else found._asdict()
            right = hmac.compare_digest(_digest(secret), _NO_DIGEST if row is None else row["digest"])
            if row is None or not right or row["revoked_at"] is not None:
                return None
            if row["expires_at"] is not None and row["expires_at"] <= self._clock.read(connection).at:
                return None
            return _record(row)

        return self._read(work)

    def any_live(self) -> bool:
        """Return whether any key is valid now."""

        def work(connection: Connection) -> bool:
            now = self._clock.read(connection).at
            live = table.c.revoked_at.is_(None) & (table.c.expires_at.is_(None) | (table.c.expires_at > now))
            return connection.execute(select(table.c.id).where(live).limit(1)).first() is not None

        return self._read(work)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _record(row: Mapping[str, Any]) -> KeyRecord:
    known = set(SCOPES)
    return KeyRecord(
        id=row["id"],
        owner=row["owner"],
        name=row["name"],
        scopes=frozenset(scope for scope in row["scopes"].split() if scope in known),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
