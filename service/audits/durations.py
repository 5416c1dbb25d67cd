"""How long audits take here: the median of earlier ones that did the same amount of work."""

import threading
import time
from collections.abc import Hashable
from statistics import median
from typing import Final

from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.ledger import Ledger
from jobs.records import AuditRecord

_EARLIER: Final = 50
"""Audits of the owner that are looked at, newest first."""
_KEPT_S: Final = 60.0
"""How long an answer is kept: clients poll, and a median changes slowly."""
_MAX_KEPT: Final = 1_000


class Durations:
    """Expected durations by owner and kind of audit. Safe with several threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[Hashable, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def expected_s(self, owner: str, spec: AuditSpec) -> float | None:
        """Median seconds that the owner's earlier audits like this one ran; None where there was none."""
        key, now = (owner, *_work_of(spec)), time.monotonic()
        with self._lock:
            until, kept = self._kept.get(key, (0.0, 0.0))
        if until > now:
            return kept
        seconds = self._measured(owner, spec)
        if seconds is None:
            return None  # looked up again, so that the first audit that ends counts at once
        with self._lock:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = (now + _KEPT_S, seconds)
        return seconds

    def of(self, record: AuditRecord) -> float | None:
        """The expected duration of an audit that has not ended; None of one that has."""
        return None if record.status in TERMINAL else self.expected_s(record.owner, record.spec)

    def _measured(self, owner: str, spec: AuditSpec) -> float | None:
        earlier = self._ledger.list(
            owner=owner, status="succeeded", base_model=spec.base_model, page_size=_EARLIER
        ).audits
        took = [
            (record.finished_at - record.started_at).total_seconds()
            for record in earlier
            if record.started_at is not None
            and record.finished_at is not None
            and _work_of(record.spec) == _work_of(spec)
        ]
        return median(took) if took else None


def _work_of(spec: AuditSpec) -> tuple[Hashable, ...]:
    """What decides how long an audit takes, apart from the machine."""
    sizes = tuple(sorted(spec.sizes().model_dump().items()))
    search = spec.search and (spec.search.budget, spec.search.sources, spec.search.contexts)
    return spec.base_model, sizes, spec.architectures, spec.layers, len(spec.pairs), search
