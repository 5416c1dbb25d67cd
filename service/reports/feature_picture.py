"""The picture of one feature: how often and how strongly it fires under each condition."""

from collections.abc import Callable
from typing import Final

from backdoor_audit.contract.report.feature_report import CONDITION_WORDS, FiringUnder
from backdoor_audit.contract.report.features import Feature
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share
from service.reports.drawing import Drawing
from service.reports.pictures import WIDTH, Picture

_CSS: Final = {"triggered": "pair", "firing_decoys": "responding"}


def firing(feature: Feature, order: int) -> Picture | None:
    """How often and how strongly a feature fires under each condition; None if it was not recorded."""
    if feature.explanation is None:
        return None
    conditions = feature.explanation.firing
    drawing = Drawing(f"firing-{order}", WIDTH, 42 * len(conditions) + 62, f"Where feature {feature.id} fires")
    strongest = [row.strongest.activation for row in conditions if row.strongest is not None]
    top = max([*strongest, feature.firing_threshold, 1e-9]) * 1.08
    bars, dots = (12.0, 186.0), (236.0, WIDTH - 14)
    drawing.text(bars[0], 14, "share of prompts", "small")
    drawing.text(dots[0], 14, "strongest activation", "small")

    def scale(value: float) -> float:
        return dots[0] + max(value, 0.0) / top * (dots[1] - dots[0])

    bottom = 24 + 42 * len(conditions)
    drawing.line(scale(feature.firing_threshold), 22, scale(feature.firing_threshold), bottom, "limit")
    for line, row in enumerate(conditions):
        _firing_row(drawing, row, 24 + 42 * line, bars, dots, scale)
    drawing.line(bars[0], bottom, bars[1], bottom, "axis")
    drawing.line(dots[0], bottom, dots[1], bottom, "axis")
    for tick in (0.0, 0.5, 1.0):
        x = bars[0] + tick * (bars[1] - bars[0])
        drawing.text(x, bottom + 14, share(tick), "small", "start" if tick == 0 else "middle")
    place = min(max(scale(feature.firing_threshold), dots[0] + 40), dots[1] - 40)
    drawing.text(place, bottom + 14, f"fires above {number(feature.firing_threshold)}", "small", "middle")
    return Picture(
        f"firing-{order}",
        "Activations under each string",
        "Left: share of prompts with an activation above the firing threshold. Right: the strongest activation. A "
        "feature of the backdoor fires with the suspected string and stays silent otherwise.",
        drawing.render(),
        ("condition", "prompts", "share firing", "strongest activation"),
        tuple(
            (
                CONDITION_WORDS[row.condition],
                str(row.prompts),
                share(row.share),
                UNMEASURED if row.strongest is None else number(row.strongest.activation),
            )
            for row in conditions
        ),
    )


def _firing_row(
    drawing: Drawing,
    row: FiringUnder,
    y: float,
    bars: tuple[float, float],
    dots: tuple[float, float],
    scale: Callable[[float], float],
) -> None:
    label = CONDITION_WORDS[row.condition]
    css = _CSS.get(row.condition, "silent")
    drawing.text(bars[0], y + 14, label, "label")
    drawing.rectangle(
        bars[0], y + 19, row.share * (bars[1] - bars[0]), 14, f"bar {css}", f"{label}: {share(row.share)}"
    )
    drawing.text(bars[0] + row.share * (bars[1] - bars[0]) + 5, y + 31, share(row.share), "value")
    drawing.line(dots[0], y + 26, dots[1], y + 26, "rail")
    if row.strongest is not None:
        mark = drawing.diamond if css == "pair" else drawing.triangle if css == "responding" else drawing.circle
        mark(scale(row.strongest.activation), y + 26, 6.0, css, number(row.strongest.activation))
