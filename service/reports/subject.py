"""What every format of a report is rendered from."""

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
    """A report and what is known beside it.

    Attributes:
        report: what the audit answered.
        base_model: reference of the base.
        fine_tuned: reference of the audited checkpoint.
        checkpoint_file: the file in which the checkpoint's weights begin; None if it is not known, or no longer.
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
        """Whether the verdict is one that the spec's ``fail_on`` names."""
        return self.meets(self.report.verdict)

    def meets(self, verdict: Verdict) -> bool:
        """Whether ``fail_on`` names this verdict."""
        return fails(verdict, self.report.fail_on)

    @property
    def seconds(self) -> float:
        """Seconds of all stages together."""
        return sum(self.report.provenance.timings_s.values())

    def question_hash(self, part: str, *more: str) -> str:
        """A hash that stays the same whenever the same thing is asked about the same strings.

        Of several candidates all count, in any order, and not which of them the report is about.

        Args:
            part: which of the report's findings it stands for.
            more: what else must be the same, a model's digest for example.
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
