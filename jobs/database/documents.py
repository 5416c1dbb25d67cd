"""Specs and reports as stored JSON.

A spec never changes and may hold megabytes of prompts, while its audit is polled often: parsed specs are kept in
memory, found by their digest, up to a bound on the text they were read from.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, insert, select

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import SPEC_VERSION, AuditSpec
from jobs.database.tables import reports, specs
from jobs.errors import DocumentUnreadable, SpecTooNew

M = TypeVar("M", bound=BaseModel)

_CACHE_CHARS: Final = 32 * 2**20


def parse(model: type[M], body: str) -> M:
    """Read what was stored as JSON.

    Raises:
        DocumentUnreadable: it is not one to this code.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise DocumentUnreadable(f"a stored {model.__name__} cannot be read by this version of the code") from error


class SpecCache:
    """Writes specs, and reads them with the least recently used leaving memory first. Safe with several threads."""

    def __init__(self, max_chars: int = _CACHE_CHARS) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._parsed: OrderedDict[str, tuple[AuditSpec, int]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, connection: Connection, audit_id: str, spec: AuditSpec) -> None:
        """Store the spec of a new audit."""
        body = spec.model_dump_json()
        connection.execute(insert(specs).values(audit_id=audit_id, version=SPEC_VERSION, body=body, chars=len(body)))

    def get(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> dict[str, AuditSpec]:
        """Return the specs of rows of ``audits``, by audit id.

        Raises:
            DocumentUnreadable: a stored spec is not one to this code.
        """
        found: dict[str, AuditSpec] = {}
        missing: dict[str, str] = {}
        for row in rows:
            spec = self._recall(row["spec_digest"])
            if spec is None:
                missing[row["id"]] = row["spec_digest"]
            else:
                found[row["id"]] = spec
        if missing:
            query = select(specs.c.audit_id, specs.c.body).where(specs.c.audit_id.in_(missing))
            for audit_id, body in connection.execute(query):
                found[audit_id] = self._recall(missing[audit_id]) or self._keep(missing[audit_id], body)
        return found

    def _recall(self, digest: str) -> AuditSpec | None:
        with self._lock:
            if digest not in self._parsed:
                return None
            self._parsed.move_to_end(digest)
            return self._parsed[digest][0]

    def _keep(self, digest: str, body: str) -> AuditSpec:
        spec = parse(AuditSpec, body)
        with self._lock:
            if digest not in self._parsed and len(body) <= self._max_chars:
                self._parsed[digest] = (spec, len(body))
                self._chars += len(body)
            while self._chars > self._max_chars:
                _, (_, chars) = self._parsed.popitem(last=False)
                self._chars -= chars
        return spec


def require_readable(connection: Connection, audit_id: str) -> None:
    """Refuse an audit whose spec is of a newer version than this code: it might parse and mean something else.

    Raises:
        SpecTooNew: so it is.
    """
    found = connection.execute(select(specs.c.version).where(specs.c.audit_id == audit_id)).scalar_one()
    if _parts(found) > _parts(SPEC_VERSION):
        raise SpecTooNew(audit_id, found, SPEC_VERSION)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def put_report(connection: Connection, audit_id: str, report: AuditReport) -> None:
    """Store the report; the table's primary key allows one an audit."""
    connection.execute(insert(reports).values(audit_id=audit_id, body=report.model_dump_json()))


def get_report(connection: Connection, audit_id: str) -> AuditReport | None:
    """Return the report, None if there is none.

    Raises:
        DocumentUnreadable: the stored report is not one to this code.
    """
    body = connection.execute(select(reports.c.body).where(reports.c.audit_id == audit_id)).scalar_one_or_none()
    return None if body is None else parse(AuditReport, body)
