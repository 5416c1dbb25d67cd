"""Two reports side by side: what was asked and answered, and where they differ."""

from dataclasses import dataclass

from audit.report import AuditReport
from service.reports import words
from service.reports.words import number, share


@dataclass(frozen=True)
class Line:
    """One row of the comparison."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """Whether the two say something else."""
        return self.left != self.right


def compare(left: AuditReport, right: AuditReport) -> list[Line]:
    """The rows, in the report's order."""
    columns = [_column(left), _column(right)]
    return [Line(name, columns[0][name], columns[1][name]) for name in columns[0]]


def comparable_question(left: AuditReport, right: AuditReport) -> bool:
    """Whether both asked the same of two models: same base, prompts and pair."""
    return (left.provenance.base_digest, left.provenance.carriers_digest, words.pair(left)) == (
        right.provenance.base_digest, right.provenance.carriers_digest, words.pair(right),
    )  # fmt: skip


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
        "firing decoys": str(gates.specific.firing),
        "recovered": share(gates.causal.recovered),
        "layer": str(gates.causal.layer) if gates.causal.layer is not None else words.UNMEASURED,
        "BIS": number(scores.bis),
        "amplification": number(scores.amplification),
        "bis_p95 of at most": f"{number(scores.bis_p95)} of {number(scores.bis_p95_ceiling)}",
        "flagged features": ", ".join(feature.id for feature in report.flagged_features) or "none",
        "base": report.provenance.base_digest or words.UNMEASURED,
        "fine-tuned": report.provenance.tuned_digest or words.UNMEASURED,
        "prompts": report.provenance.carriers_digest,
    }
