"""Use cases for batches: file many audits at once, read them worst first, cancel them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from pydantic import ValidationError

from backdoor_audit.contract.batch import VARIED, BatchSpec
from backdoor_audit.contract.lifecycle import TERMINAL, Failure, Status
from backdoor_audit.contract.report.verdicts import BY_URGENCY, NEEDS_REVIEW, FailOn, Verdict, fails
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import LibraryNotFound, NoReport, ReportNotReady
from jobs.ids import derived_id, new_id
from jobs.records import AuditRecord, Decision
from service.audits import service as audits
from service.audits.checks import check_spec
from service.dependencies import Dependencies
from service.errors import BatchNotFound, ErrorItem, InvalidRequest, UnknownLibrary
from service.http.validation import MAX_ITEMS, body_items

_PREFIX: Final = "batch_"
MAX_SUMMARIES: Final = 25
"""Reports that are read for one answer: those of the worst verdicts."""
MAX_SPEC_CHARS: Final = 32 * 2**20
"""How much text all specs of one batch may hold: each audit has the common spec, which may take megabytes."""
_MAX_PAIR_CHARS: Final = 8_000
"""How much of an audit's pairs one answer holds: fifty may be tested, of two thousand characters a string."""
_COMMON: Final = ("candidates", "search", "carriers", "decoys")
"""Fields that make specs long and that no audit of a batch has of its own."""


@dataclass(frozen=True)
class BatchRow:
    """One audit of a batch, without what makes specs long."""

    id: str
    status: Status
    progress: float
    verdict: Verdict | None
    decision: Decision | None
    failure: Failure | None
    base_model: str
    fine_tuned: str
    pairs: tuple[tuple[str, str], ...]
    more_pairs: int
    """Pairs that are left out for their length."""
    fail_on: FailOn
    created_at: datetime
    finished_at: datetime | None
    summary: str = ""
    """The report's summary; empty without one, and beyond the first ``MAX_SUMMARIES``."""

    @property
    def fails(self) -> bool:
        """Whether the verdict meets the spec's ``fail_on``."""
        return self.verdict is not None and fails(self.verdict, self.fail_on)

    @property
    def result(self) -> str:
        """The verdict, or the state of an audit without one."""
        return self.verdict or self.status

    @classmethod
    def of(cls, record: AuditRecord) -> "BatchRow":
        """The row of ``record``."""
        spec = record.spec
        pairs = tuple((pair.triggered, pair.clean) for pair in spec.pairs)
        read = accumulate(len(triggered) + len(clean) for triggered, clean in pairs)
        shown = pairs[: max(1, sum(chars <= _MAX_PAIR_CHARS for chars in read))]
        return cls(
            id=record.id,
            status=record.status,
            progress=record.progress,
            verdict=record.verdict,
            decision=record.decision,
            failure=record.failure,
            base_model=spec.base_model,
            fine_tuned=spec.fine_tuned,
            pairs=shown,
            more_pairs=len(pairs) - len(shown),
            fail_on=spec.fail_on,
            created_at=record.created_at,
            finished_at=record.finished_at,
        )


@dataclass(frozen=True)
class Batch:
    """All audits of a batch that are left, worst first."""

    id: str
    rows: tuple[BatchRow, ...]

    @property
    def ended(self) -> bool:
        """Whether every audit has ended."""
        return all(row.status in TERMINAL for row in self.rows)

    @property
    def results(self) -> dict[str, int]:
        """How many audits have each result, worst first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.result] = counts.get(row.result, 0) + 1
        return counts


_WORST_FIRST: Final = (*BY_URGENCY[:3], "failed", "cancelled", "cancelling", "running", "queued", BY_URGENCY[3])
"""What nobody has an answer to comes before what showed nothing."""


def file_batch(
    dependencies: Dependencies, owner: str, wanted: BatchSpec, *, idempotency_key: str | None = None
) -> Batch:
    """File every audit of a batch, or none.

    Raises:
        UnknownLibrary, UnknownModel, ModelRejected, ModelsIncompatible, InvalidRequest, IdempotencyConflict, QueueFull,
        UnknownWebhook: as ``file_audit``; what is wrong with a spec is told for every audit.
    """
    specs = _specs(wanted)
    _check(dependencies, specs)
    batch = new_id(_PREFIX) if idempotency_key is None else derived_id(_PREFIX, owner, idempotency_key)
    try:
        filed = dependencies.ledger.submit_batch(specs, owner=owner, batch=batch, idempotency_key=idempotency_key)
    except LibraryNotFound:
        raise UnknownLibrary from None
    for each in filed:
        if each.created:
            audits.enqueue(dependencies, each.audit.id)
    return Batch(batch, _ordered(BatchRow.of(each.audit) for each in filed))


def find_batch(dependencies: Dependencies, owner: str, batch_id: str, *, summaries: bool = True) -> Batch:
    """The audits of a batch, worst first.

    Raises:
        BatchNotFound: the owner has none of it.
    """
    rows = _ordered(BatchRow.of(record) for record in _records(dependencies, owner, batch_id))
    if not rows:
        raise BatchNotFound
    if summaries:
        rows = tuple(_summarised(dependencies, owner, rows))
    return Batch(batch_id, rows)


def cancel_batch(dependencies: Dependencies, owner: str, batch_id: str) -> Batch:
    """Cancel every audit of a batch that has not ended; those that have stay as they are.

    Raises:
        BatchNotFound: the owner has none of it.
    """
    for row in find_batch(dependencies, owner, batch_id, summaries=False).rows:
        if row.status not in TERMINAL:
            dependencies.ledger.request_cancel(row.id, owner=owner)
    return find_batch(dependencies, owner, batch_id)


def _records(dependencies: Dependencies, owner: str, batch_id: str) -> Iterator[AuditRecord]:
    token: str | None = None
    while True:
        page = dependencies.ledger.list(owner=owner, batch=batch_id, page_size=200, page_token=token)
        yield from page.audits
        token = page.next_page_token
        if token is None:
            return


def _ordered(rows: Iterator[BatchRow]) -> tuple[BatchRow, ...]:
    return tuple(sorted(rows, key=lambda row: (_WORST_FIRST.index(row.result), row.fine_tuned, row.id)))


def _summarised(dependencies: Dependencies, owner: str, rows: tuple[BatchRow, ...]) -> Iterator[BatchRow]:
    read = 0
    for row in rows:
        if row.verdict in NEEDS_REVIEW and read < MAX_SUMMARIES:
            read += 1
            try:
                report = dependencies.ledger.report(row.id, owner=owner)
            except (ReportNotReady, NoReport):
                report = None
            if report is not None:
                yield replace(row, summary=report.summary)
                continue
        yield row


def _specs(wanted: BatchSpec) -> tuple[AuditSpec, ...]:
    """Every audit's spec.

    Raises:
        InvalidRequest: one of them is none.
    """
    chars = len(json.dumps(wanted.spec)) * len(wanted.audits)
    if chars > MAX_SPEC_CHARS:
        most = f"{MAX_SPEC_CHARS // 2**20} MiB"
        detail = f"all specs together hold {chars / 2**20:.0f} MiB; a batch may hold {most}: file fewer audits at once"
        raise InvalidRequest(errors=(ErrorItem("body", "#/audits", detail),))
    specs: list[AuditSpec] = []
    wrong: list[ErrorItem] = []
    for number, item in enumerate(wanted.audits):
        document = item.over(wanted.spec)
        try:
            spec = AuditSpec.model_validate(document, strict=True)
        except ValidationError as error:
            wrong += [_placed(fault, number, item.model_dump()) for fault in body_items(error, document)]
            if len(wrong) >= MAX_ITEMS:
                break
        else:
            first = specs[0] if specs else spec
            specs.append(spec.model_copy(update={name: getattr(first, name) for name in _COMMON}))
    if wrong:
        raise InvalidRequest(errors=list(dict.fromkeys(wrong))[:MAX_ITEMS])
    return tuple(specs)


def _placed(fault: ErrorItem, number: int, item: dict[str, Any]) -> ErrorItem:
    """Where the client wrote what is wrong: in the common spec, or in one of the audits."""
    field = fault.pointer.removeprefix("#/").split("/")[0]
    where = f"#/audits/{number}" if field in VARIED and item[field] is not None else "#/spec"
    return ErrorItem(fault.place, where + fault.pointer.removeprefix("#"), fault.detail)


def _check(dependencies: Dependencies, specs: tuple[AuditSpec, ...]) -> None:
    """As for each audit by itself; all models that are missing are told at once."""
    wrong: list[ErrorItem] = []
    for number, spec in enumerate(specs):
        try:
            check_spec(dependencies.models, spec)
        except InvalidRequest as error:
            wrong += [
                ErrorItem(fault.place, f"#/audits/{number}{fault.pointer.removeprefix('#')}", fault.detail)
                for fault in error.errors
            ]
    if wrong:
        raise InvalidRequest(errors=wrong[:MAX_ITEMS])
