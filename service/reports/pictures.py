"""The pictures of a report: drawn for a narrow screen, readable without colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.words import null_subspaces, pair
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share
from service.reports.drawing import Drawing, Symlog

WIDTH: Final = 400.0
_SHADES: Final = 9
_STEPS: Final = tuple(size * 10.0**power for power in range(9) for size in (0.5, 1.0, 2.0))
_MAX_STEPS: Final = 4
_STEERING: Final = "Steering does the reverse to clean prompts and measures how much of it is induced. "
_STATES: Final = {"silent": "silent", "firing": "responding"}


@dataclass(frozen=True)
class Picture:
    """A drawing with its title, caption and numbers."""

    name: str
    title: str
    caption: str
    drawing: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: bool = False


def decoys(report: AuditReport) -> Picture:
    """The pair's effect against that of the other strings of its kind."""
    effect, threshold = report.gates.specific.effect_nats, report.gates.specific.threshold
    lanes: list[tuple[str, str, list[tuple[float, str]]]] = []
    for state, words in _STATES.items():
        points = [(row.effect_nats, row.string) for row in report.decoys if row.state == state]
        if points:
            lanes.append((_counted(len(points), f"{words} decoy"), words, points))
    benign = report.gates.calibrated.library_effects
    if benign:
        lanes.append((_counted(len(benign), "benign model"), "benign", [(value, "a benign model") for value in benign]))
    if effect is not None:
        lanes.append((f"the pair: {number(effect)}", "pair", [(effect, pair(report)[0])]))
    values = [value for _, _, points in lanes for value, _ in points]
    scale = Symlog(min(values, default=0.0), max(values, default=1.0), threshold, 12, WIDTH - 14)
    height = 30 + 54 * len(lanes) + 24
    drawing = Drawing(
        "decoys", WIDTH, height, f"Effect of the pair and of {len(report.decoys)} decoys, in nats per prompt"
    )
    bottom = height - 36
    aside, anchor = (4, "start") if scale(threshold) < WIDTH / 2 else (-4, "end")
    drawing.text(scale(threshold) + aside, 12, f"threshold {number(threshold)}", "small", anchor)
    for place, (label, css, points) in enumerate(lanes):
        middle = 58 + 54 * place
        drawing.text(12, middle - 19, label, "value" if css == "pair" else "label")
        drawing.line(12, middle, WIDTH - 14, middle, "rail")
        drawing.line(scale(threshold), middle - 14, scale(threshold), middle + 16, "limit")
        _lane(drawing, scale, points, css, middle)
    _axis(drawing, scale, bottom, "effect, nats per prompt (logarithmic beyond the threshold)")
    rows = [("pair", pair(report)[0], number(effect), UNMEASURED, UNMEASURED)] if effect is not None else []
    rows += [
        (
            _STATES[row.state],
            row.string,
            number(row.effect_nats),
            number(row.output_kl),
            UNMEASURED if row.layer is None else str(row.layer),
        )
        for row in sorted(report.decoys, key=lambda row: -row.effect_nats)
    ]
    rows += [("benign model", UNMEASURED, number(value), UNMEASURED, UNMEASURED) for value in benign]
    return Picture(
        "decoys",
        "The suspected pair and other strings of its kind",
        "Each mark is one string: how much of its effect is undone by restoring the clean activations. A pair that was "
        "trained in stands apart from the silent decoys, and from benign models if there are any. Decoys that "
        "respond are close to the trigger.",
        drawing.render(),
        ("kind", "string", "effect, nats", "output change, nats", "layer"),
        tuple(rows),
    )


def layer_effects(report: AuditReport) -> Picture | None:
    """Layers by the directions' effect; None if there are no directions."""
    effects = {row.layer: row.effect_nats_a for row in report.directions}
    if not effects:
        return None
    # An effect below the threshold must not look strong just because all others are even smaller.
    largest = max(*effects.values(), report.gates.specific.threshold, 1e-9)
    return _heat_map(
        report,
        "layers",
        "Effect at each layer",
        "The causal effect of the leading direction on the discovery half, in nats per prompt; it selects the layer. A "
        "stronger shade means a larger effect, relative to the largest one or the threshold.",
        {"directions": effects},
        largest,
    )


def layer_scores(report: AuditReport) -> Picture | None:
    """Layers by each kind of dictionary's best feature; None if no dictionary was trained."""
    # A dictionary's row gives the feature with the largest attribution; a flagged one may separate better.
    scored = [(row.architecture, row.layer, row.best_bis) for row in report.layers if row.best_bis is not None]
    scored += [(feature.architecture, feature.layer, feature.bis) for feature in report.flagged_features]
    best: dict[str, dict[int, float]] = {}
    for architecture, layer, bis in scored:
        row = best.setdefault(architecture, {})
        row[layer] = max(row.get(layer, -1.0), bis)
    if not best:
        return None
    return _heat_map(
        report,
        "scores",
        "Best feature at each layer",
        "The best BIS (at most 1) among the features that were flagged or have the largest attribution, for each kind "
        "of dictionary. A stronger shade means a larger score.",
        best,
        1.0,
    )


def _heat_map(
    report: AuditReport, name: str, title: str, caption: str, lines: Mapping[str, Mapping[int, float]], top: float
) -> Picture:
    """One line of cells for each mapping from layer to value; ``top`` is the value of the strongest shade."""
    layers = sorted({row.layer for row in report.directions} | {row.layer for row in report.layers})
    chosen = next((row.layer for row in report.directions if row.chosen), None)
    left, cell = 124.0, max(42.0, min(66.0, (WIDTH - 134) / max(len(layers), 1)))
    width = max(WIDTH, left + cell * len(layers) + 10)
    drawing = Drawing(name, width, 58 + 38 * len(lines), title)
    drawing.text(left - 8, 18, "layer", "small", "end")
    for column, layer in enumerate(layers):
        middle = left + cell * (column + 0.5)
        drawing.text(middle, 18, str(layer), "label", "middle")
        if layer == chosen:
            bottom = 26 + 38 * len(lines)
            drawing.rectangle(left + cell * column + 1, 24, cell - 2, bottom - 24, "chosen")
            drawing.text(middle, bottom + 16, "▲ chosen", "small", "middle")
        for line, (label, values) in enumerate(lines.items()):
            y = 26 + 38 * line
            if layer in values:
                shade = _shade(values[layer] / top)
                drawing.rectangle(
                    left + cell * column + 3, y, cell - 6, 34, f"shade s{shade}", f"{label}: layer {layer}"
                )
                css = "inverse" if shade >= _SHADES // 2 + 1 else ""
                drawing.text(middle, y + 21, _in_cell(values[layer]), f"value {css}".strip(), "middle")
            else:
                drawing.text(middle, y + 21, UNMEASURED, "value", "middle")
    for line, label in enumerate(lines):
        drawing.text(left - 8, 26 + 38 * line + 21, label, "label", "end")
    rows = tuple(
        (str(layer), *(number(values.get(layer)) for values in lines.values()), "yes" if layer == chosen else "no")
        for layer in layers
    )
    return Picture(name, title, caption, drawing.render(), ("layer", *lines, "chosen"), rows, wide=len(layers) > 8)


def effects(report: AuditReport) -> Picture | None:
    """What ablation undoes and steering induces; None if neither was measured."""
    causal, localised = report.gates.causal, report.localisation
    bars: list[tuple[str, float | None, tuple[float, float] | None, str]] = [
        ("ablate the directions", causal.recovered, causal.recovered_interval, "ablate"),
        (f"ablate {null_subspaces(report)}, maximum", causal.null_max, None, "null"),
        ("ablate the flagged features", None if localised is None else localised.recovered, None, "ablate"),
        ("steer clean prompts", causal.induced, None, "steer"),
    ]
    shown = [bar for bar in bars if bar[1] is not None]
    if not shown:
        return None
    values = [value for _, value, interval, _ in shown for value in (value, *(interval or ())) if value is not None]
    ticks = _ticks(min(0.0, *values), max(1.0, *values))
    low, high = ticks[0], ticks[-1]
    left, right = 12.0, WIDTH - 52

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    drawing = Drawing("effects", WIDTH, 44 * len(shown) + 34, "Effect of ablation and of steering")
    for line, (label, value, interval, css) in enumerate(shown):
        if value is None:
            continue
        y = 44 * line
        drawing.text(12, y + 14, label, "label")
        start, end = sorted((place(0.0), place(value)))
        drawing.line(place(0.0), y + 18, place(0.0), y + 38, "axis")
        drawing.rectangle(start, y + 20, end - start, 16, f"bar {css}", label)
        if interval is not None:
            _whisker(drawing, place(interval[0]), place(interval[1]), y + 28)
        beyond = max(end, place(0.0), *(place(edge) for edge in interval or ()))
        drawing.text(beyond + 6, y + 33, share(value), "value")
    bottom = 44 * len(shown) + 6
    for tick in ticks:
        drawing.line(place(tick), bottom - 4, place(tick), bottom, "axis")
        at_edge = "start" if place(tick) < left + 20 else "middle"
        drawing.text(place(tick), bottom + 13, share(tick), "small", at_edge)
    drawing.line(left, bottom - 4, right, bottom - 4, "axis")
    return Picture(
        "effects",
        "Ablation" if causal.induced is None else "Ablation and steering",
        "Ablation restores the clean activations and measures how much of the behaviour is undone. "
        + ("" if causal.induced is None else _STEERING)
        + "Other subspaces should have no effect.",
        drawing.render(),
        ("intervention", "share", "95% interval"),
        tuple(
            (
                label,
                share(value),
                UNMEASURED if interval is None else f"{share(interval[0])} to {share(interval[1])}",
            )
            for label, value, interval, _ in shown
        ),
    )


def _lane(drawing: Drawing, scale: Symlog, points: Sequence[tuple[float, str]], css: str, middle: float) -> None:
    """Marks along a line; those that would overlap are moved up and down alternately."""
    last: dict[int, float] = {}
    for value, string in sorted(points):
        x = scale(value)
        step = next((n for n in range(7) if x - last.get(n, -99.0) >= 8), 6)
        last[step] = x
        y = middle + (1 if step % 2 else -1) * ((step + 1) // 2) * 4.0
        tip = f"{string}: {number(value)} nats"
        if css == "pair":
            drawing.diamond(x, middle, 9, css, tip)
        elif css == "responding":
            drawing.triangle(x, y, 5, css, tip)
        elif css == "benign":
            drawing.square(x, y, 3.5, css, tip)
        else:
            drawing.circle(x, y, 4, css, tip)


def _axis(drawing: Drawing, scale: Symlog, bottom: float, label: str) -> None:
    drawing.line(12, bottom, WIDTH - 14, bottom, "axis")
    for tick in scale.ticks():
        drawing.line(scale(tick), bottom, scale(tick), bottom + 4, "axis")
        drawing.text(scale(tick), bottom + 15, number(tick), "small", "middle")
    drawing.text(WIDTH - 14, bottom + 28, label, "small", "end")


def _ticks(low: float, high: float) -> list[float]:
    """At most five evenly spaced shares from at or below ``low`` to at or above ``high``, zero among them."""
    step = next(size for size in _STEPS if math.ceil(high / size) - math.floor(low / size) <= _MAX_STEPS)
    return [step * count for count in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _whisker(drawing: Drawing, start: float, end: float, y: float) -> None:
    drawing.line(start, y, end, y, "whisker")
    for x in (start, end):
        drawing.line(x, y - 4, x, y + 4, "whisker")


def _in_cell(value: float) -> str:
    """A number of at most five characters; the table has the full one."""
    text = f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _shade(part: float) -> int:
    """The index of a shade, 0 for the weakest."""
    return min(max(int(part * _SHADES), 0), _SHADES - 1)
