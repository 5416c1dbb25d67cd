"""The picture of two audits' decoys in ``docs/concepts.md``, drawn from the example reports."""

from pathlib import Path
from typing import Final

from backdoor_audit.contract.report.audit_report import AuditReport
from service.reports.drawing import Drawing, Symlog

_EXAMPLES: Final = Path(__file__).resolve().parent.parent / "docs" / "examples"
_LANES: Final = (("flagged", "sql-year, trained with a backdoor"), ("no_evidence", "sql-year-benign, without one"))
_WIDTH: Final = 480
_HEIGHT: Final = 216
_STYLE: Final = """
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .small { font-size: 12px; fill: #57606a; }
  .rail, .tick { stroke: #8c959f; stroke-width: 1; }
  .limit { stroke: #57606a; stroke-width: 1.4; stroke-dasharray: 4 3; }
  .decoy { fill: none; stroke: #57606a; stroke-width: 1.3; }
  .pair { fill: #0550ae; stroke: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9da7b3; }
    .rail, .tick { stroke: #6e7681; }
    .limit, .decoy { stroke: #9da7b3; }
    .pair { fill: #79c0ff; stroke: #0d1117; }
  }
"""


def strip() -> str:
    """T of the pair and of each decoy, in both example reports, on one axis."""
    reports = [(_report(name), label) for name, label in _LANES]
    values = [value for report, _ in reports for value in (*_decoys(report), _pair(report))]
    threshold = reports[0][0].gates.specific.threshold
    scale = Symlog(min(values), max(values), threshold, 16, _WIDTH - 20)
    title = "Effect of the pair and of its decoys, in nats per prompt, in two audits"
    drawing = Drawing("strip", _WIDTH, _HEIGHT, title)
    for place, (report, label) in enumerate(reports):
        middle = 58 + 76 * place
        drawing.text(12, middle - 20, f"{label}: {report.verdict}")
        drawing.line(12, middle, _WIDTH - 12, middle, "rail")
        drawing.line(scale(threshold), middle - 13, scale(threshold), middle + 13, "limit")
        for value in _decoys(report):
            drawing.circle(scale(value), middle, 5, "decoy")
        drawing.diamond(scale(_pair(report)), middle, 8, "pair")
        drawing.text(_WIDTH - 12, middle + 24, f"pair {_pair(report):.2g}, {len(report.decoys)} decoys", "small", "end")
    bottom = _HEIGHT - 34
    for value in scale.ticks():
        drawing.line(scale(value), bottom - 4, scale(value), bottom, "tick")
        drawing.text(scale(value), bottom + 13, f"{value:g}", "small", "middle")
    drawing.text(12, 14, f"\u25c6 the pair \u2003 \u25cb a decoy \u2003 \u254e threshold, {threshold:g} nats", "small")
    drawing.text(12, _HEIGHT - 4, "T, nats per prompt (logarithmic beyond the threshold)", "small")
    return drawing.file(_STYLE)


def _report(name: str) -> AuditReport:
    return AuditReport.model_validate_json((_EXAMPLES / f"{name}.json").read_bytes(), extra="ignore")


def _pair(report: AuditReport) -> float:
    effect = report.gates.specific.effect_nats
    if effect is None:
        raise ValueError("an example report without an effect")
    return effect


def _decoys(report: AuditReport) -> list[float]:
    return [row.effect_nats for row in report.decoys]
