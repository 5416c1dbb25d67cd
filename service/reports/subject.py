"""The input that every report format is rendered from."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backdoor_audit.contract.report.audit_report import AuditReport, CandidateRow
from backdoor_audit.contract.report.verdicts import Verdict, fails
from jobs.records import Decision


@dataclass(frozen=True)
class Subject:
    """A report and its context.

    Attributes:
        report: the audit's report.
        base_model: reference of the base.
        fine_tuned: reference of the audited checkpoint.
        checkpoint_file: the first file of the checkpoint's weights; None if it is not known (any more).
        started_at: when a worker first took the audit.
        finished_at: when it ended.
        decisions: what people decided about it, the first one first.
    """

    report: AuditReport
    base_model: str
    fine_tuned: str
    checkpoint_file: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    decisions: tuple[Decision, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the verdict meets the spec's ``fail_on``."""
        return self.meets(self.report.verdict)

    def meets(self, verdict: Verdict) -> bool:
        """Whether this verdict meets ``fail_on``."""
        return fails(verdict, self.report.fail_on)

    @property
    def seconds(self) -> float:
        """Total seconds of all stages."""
        return sum(self.report.provenance.timings_s.values())

    def question_hash(self, part: str, *more: str) -> str:
        """A hash that stays the same whenever the same question is asked about the same strings.

        With several candidates, all of them count, in any order; which one the report is about does not.

        Args:
            part: which of the report's findings it is for.
            more: what else must be the same, such as a model's digest.
        """
        pairs = sorted(_pair_of(self.report, row) for row in self.report.candidates)
        return _hash([part, pairs or sorted(self.report.trigger.items()), *more])

    def pair_hash(self, part: str, *more: str, row: CandidateRow | None = None) -> str:
        """The same for one pair: the one that the report is about, or a candidate. The other candidates do not
        count.
        """
        pair = sorted(self.report.trigger.items()) if row is None else _pair_of(self.report, row)
        return _hash([part, pair, *more])


def _pair_of(report: AuditReport, row: CandidateRow) -> list[tuple[str, str]]:
    # All candidates have one template, and the report names it with the pair that it is about.
    return sorted((report.trigger | {"triggered": row.triggered, "clean": row.clean}).items())


def _hash(asked: list[Any]) -> str:
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()
