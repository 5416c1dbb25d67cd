"""Two reports side by side: the values that people compare, and whether they may be compared."""

from dataclasses import dataclass
from typing import Any

from backdoor_audit.contract.report import words
from backdoor_audit.contract.report.audit_report import AuditReport


@dataclass(frozen=True)
class ComparedField:
    """One value of both reports; ``name`` is its path in the report's JSON."""

    name: str
    left: Any
    right: Any

    @property
    def differs(self) -> bool:
        """Whether the two values differ."""
        return bool(self.left != self.right)


def compared(left: AuditReport, right: AuditReport) -> tuple[ComparedField, ...]:
    """The fields, in the report's order."""
    columns = _values(left), _values(right)
    return tuple(ComparedField(name, columns[0][name], columns[1][name]) for name in columns[0])


def comparable_question(left: AuditReport, right: AuditReport) -> bool:
    """Whether both asked the same question: same base, prompts and pair."""
    return (left.provenance.base_digest, left.provenance.carriers_digest, words.pair(left)) == (
        right.provenance.base_digest, right.provenance.carriers_digest, words.pair(right),
    )  # fmt: skip


def _values(report: AuditReport) -> dict[str, Any]:
    triggered, clean = words.pair(report)
    gates, scores, provenance = report.gates, report.scores, report.provenance
    return {
        "verdict": report.verdict,
        "trigger/triggered": triggered,
        "trigger/clean": clean,
        "method_version": report.method_version,
        "sizes/preset": report.sizes.preset,
        **{f"gates/{name}/state": getattr(gates, name).state for name in words.QUESTIONS},
        "gates/behaviour/output_kl": gates.behaviour.output_kl,
        "gates/specific/effect_nats": gates.specific.effect_nats,
        "gates/specific/p_decoy_all": gates.specific.p_decoy_all,
        "gates/specific/firing": gates.specific.firing,
        "gates/causal/recovered": gates.causal.recovered,
        "gates/causal/layer": gates.causal.layer,
        "smallest_effect_nats": report.smallest_effect_nats,
        "scores/bis": scores.bis,
        "scores/amplification": scores.amplification,
        "scores/bis_p95": scores.bis_p95,
        "flagged_features": [feature.id for feature in report.flagged_features],
        "provenance/base_digest": provenance.base_digest,
        "provenance/tuned_digest": provenance.tuned_digest,
        "provenance/carriers_digest": provenance.carriers_digest,
        "provenance/spec_digest": provenance.spec_digest,
    }
