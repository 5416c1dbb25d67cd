"""The pictures of one feature: how often and how strongly it fires under each condition."""

from collections.abc import Sequence
from typing import Final

from backdoor_audit.contract.report.feature_report import CONDITION_WORDS, FiringUnder
from backdoor_audit.contract.report.features import Feature
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share
from service.reports.drawing import Drawing
from service.reports.pictures import WIDTH, Picture

_CSS: Final = {"triggered": "pair", "firing_decoys": "responding"}


def firing(feature: Feature, order: int) -> tuple[Picture, ...]:
    """How often and how strongly a feature fires under each condition; empty if it was not recorded."""
    if feature.explanation is None:
        return ()
    conditions = feature.explanation.firing
    return _how_often(feature.id, order, conditions), _how_strongly(feature, order, conditions)


def _how_often(name: str, order: int, conditions: Sequence[FiringUnder]) -> Picture:
    left, right, bottom = 12.0, WIDTH - 52, 42.0 * len(conditions)
    drawing = Drawing(f"firing-{order}", WIDTH, bottom + 24, f"On how many prompts feature {name} fires")
    for line, row in enumerate(conditions):
        y, label = 42 * line, CONDITION_WORDS[row.condition]
        drawing.text(left, y + 14, label, "label")
        drawing.rectangle(
            left, y + 19, row.share * (right - left), 14, f"bar {_css(row)}", f"{label}: {share(row.share)}"
        )
        drawing.text(left + row.share * (right - left) + 5, y + 31, share(row.share), "value")
    drawing.line(left, bottom, right, bottom, "axis")
    for tick in (0.0, 0.5, 1.0):
        x = left + tick * (right - left)
        drawing.line(x, bottom, x, bottom + 4, "axis")
        drawing.text(x, bottom + 17, share(tick), "small", "start" if tick == 0 else "middle")
    return Picture(
        f"firing-{order}",
        "How often it fires",
        "Share of prompts with an activation above the firing threshold. A feature of the backdoor fires with the "
        "suspected string and stays silent otherwise.",
        drawing.render(),
        ("condition", "prompts", "share firing"),
        tuple((CONDITION_WORDS[row.condition], str(row.prompts), share(row.share)) for row in conditions),
    )


def _how_strongly(feature: Feature, order: int, conditions: Sequence[FiringUnder]) -> Picture:
    strongest = [row.strongest.activation for row in conditions if row.strongest is not None]
    threshold, top = feature.firing_threshold, max([*strongest, feature.firing_threshold, 1e-9])
    left, right, bottom = 12.0, WIDTH - 64, 22.0 + 42 * len(conditions)
    drawing = Drawing(f"strength-{order}", WIDTH, bottom + 24, f"How strongly feature {feature.id} fires")

    def scale(value: float) -> float:
        return left + max(value, 0.0) / top * (right - left)

    aside, anchor = (4, "start") if scale(threshold) < WIDTH / 2 else (-4, "end")
    drawing.text(scale(threshold) + aside, 12, f"threshold {number(threshold)}", "small", anchor)
    drawing.line(scale(threshold), 4, scale(threshold), bottom, "limit")
    for line, row in enumerate(conditions):
        y, css = 22 + 42 * line, _css(row)
        drawing.text(left + 6, y + 14, CONDITION_WORDS[row.condition], "label")
        if row.strongest is None:
            drawing.text(left + 6, y + 31, "not active", "small")
            continue
        drawing.line(left, y + 27, right, y + 27, "rail")
        value = row.strongest.activation
        mark = drawing.diamond if css == "pair" else drawing.triangle if css == "responding" else drawing.circle
        mark(scale(value), y + 27, 6.0, css, number(value))
        drawing.text(scale(value) + 11, y + 31, number(value), "value")
    drawing.line(left, bottom, right, bottom, "axis")
    for tick, place in ((0.0, "start"), (top, "middle")):
        drawing.line(scale(tick), bottom, scale(tick), bottom + 4, "axis")
        drawing.text(scale(tick), bottom + 17, number(tick), "small", place)
    return Picture(
        f"strength-{order}",
        "How strongly it fires",
        "The strongest activation under each string, in units of the dictionary.",
        drawing.render(),
        ("condition", "strongest activation"),
        tuple(
            (
                CONDITION_WORDS[row.condition],
                UNMEASURED if row.strongest is None else number(row.strongest.activation),
            )
            for row in conditions
        ),
    )


def _css(row: FiringUnder) -> str:
    return _CSS.get(row.condition, "silent")
