"""The list of audits, with search."""

from dataclasses import dataclass
from typing import Final, cast, get_args

from backdoor_audit.contract.lifecycle import Status
from backdoor_audit.contract.report.verdicts import Verdict
from jobs.ledger import Ledger
from jobs.records import AuditRecord

MAX_SEARCHED: Final = 2_000
"""Maximum number of audits that one search reads; the page says so if there are more."""
_MAX_PAGES: Final = 10
"""Fewer, where the audits' specs are so long that a page of the ledger holds only some."""


@dataclass(frozen=True)
class SearchPage:
    """One page of audits; ``stopped`` says that the search did not reach the oldest."""

    audits: tuple[AuditRecord, ...]
    next_page_token: str | None
    stopped: bool = False


def page_of(ledger: Ledger, owner: str, size: int, *, status: str, verdict: str, q: str, page_token: str) -> SearchPage:
    """The audits that match the filters; ``q`` is looked for in the models' names, the pair, the labels and the id."""
    filters = {
        "owner": owner,
        "status": cast(Status, status) if status in get_args(Status) else None,
        "verdict": cast(Verdict, verdict) if verdict in get_args(Verdict) else None,
    }
    if not q.strip():
        page = ledger.list(**filters, page_size=size, page_token=page_token or None)  # type: ignore[arg-type]
        return SearchPage(page.audits, page.next_page_token)
    wanted, token, seen, pages = q.strip().lower(), None, 0, 0
    kept: list[AuditRecord] = []
    while seen < MAX_SEARCHED and pages < _MAX_PAGES:
        pages += 1
        page = ledger.list(**filters, page_size=200, page_token=token)  # type: ignore[arg-type]
        kept += [record for record in page.audits if wanted in _text(record)]
        seen += len(page.audits)
        token = page.next_page_token
        if token is None:
            return SearchPage(tuple(kept), None)
        if len(kept) >= size:
            break
    return SearchPage(tuple(kept), None, stopped=True)


def _text(record: AuditRecord) -> str:
    spec = record.spec
    pair = [string for pair in spec.pairs for string in (pair.triggered, pair.clean)]
    labels = [f"{name}={value}" for name, value in spec.labels.items()]
    return "\n".join([record.id, spec.base_model, spec.fine_tuned, *pair, *labels]).lower()
