"""Two reports side by side, and where they differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from backdoor_audit.contract.report import words
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share
from jobs.errors import AuditNotFound, ReportNotReady
from jobs.ledger import Ledger
from jobs.records import AuditRecord
from service.reports.comparison import comparable_question


@dataclass(frozen=True)
class Line:
    """One row of the comparison."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """Whether the two values differ."""
        return self.left != self.right


@dataclass(frozen=True)
class Comparison:
    """The two audits to compare.

    Attributes:
        records: those that have a report, the left one first.
        faults: what is wrong with an id, by side.
        lines: the rows; empty unless both sides have a report.
        alike: whether both asked the same question.
    """

    records: tuple[AuditRecord, ...]
    faults: Mapping[str, list[str]]
    lines: tuple[Line, ...] = ()
    alike: bool = False


def look_up(ledger: Ledger, owner: str, asked: Mapping[str, str]) -> Comparison:
    """Look up both audits; an unknown id, or an audit without a report, is an error on its side."""
    records, reports, faults = [], [], {}
    for side, audit_id in asked.items():
        if not audit_id:
            continue
        try:
            record = ledger.get(audit_id, owner=owner)
            reports.append(ledger.report(audit_id, owner=owner))
            records.append(record)
        except AuditNotFound:
            faults[side] = ["No audit has this id."]
        except ReportNotReady as error:
            faults[side] = [f"This audit is {error.status} and has no report."]
    if len(reports) < 2:
        return Comparison(tuple(records), faults)
    return Comparison(tuple(records), faults, tuple(compare(*reports)), comparable_question(*reports))


def compare(left: AuditReport, right: AuditReport) -> list[Line]:
    """The rows, in the report's order."""
    columns = [_column(left), _column(right)]
    return [Line(name, columns[0][name], columns[1][name]) for name in columns[0]]


def _column(report: AuditReport) -> dict[str, str]:
    triggered, clean = words.pair(report)
    found = {
        "verdict": words.VERDICT_TITLES[report.verdict],
        "suspected string": triggered,
        "clean string": clean,
        "preset": report.sizes.preset,
    }
    found |= {f"gate {gate.name}": gate.outcome for gate in words.gates(report)}
    gates, scores = report.gates, report.scores
    return found | {
        "output change, nats": number(gates.behaviour.output_kl),
        "effect, nats": number(gates.specific.effect_nats),
        "p among all decoys": number(gates.specific.p_decoy_all),
        "responding decoys": str(gates.specific.firing),
        "recovered": share(gates.causal.recovered),
        "layer": str(gates.causal.layer) if gates.causal.layer is not None else UNMEASURED,
        "BIS": number(scores.bis),
        "amplification": number(scores.amplification),
        "bis_p95 (maximum)": f"{number(scores.bis_p95)} ({number(scores.bis_p95_ceiling)})",
        "flagged features": ", ".join(feature.id for feature in report.flagged_features) or "none",
        "base": report.provenance.base_digest or UNMEASURED,
        "fine-tuned": report.provenance.tuned_digest or UNMEASURED,
        "prompts": report.provenance.carriers_digest,
    }
