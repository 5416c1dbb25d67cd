"""The benchmark's figures as SVG files, legible on a light and on a dark page."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from service.reports.drawing import Drawing

Points = Sequence[tuple[float, float]]

WIDTH: Final = 640
# Colours with enough contrast on white and on near-black.
COLOURS: Final = ("#2f81c1", "#d1603d", "#3a9a5b", "#9467bd", "#b58900", "#7f8790")
_STYLE: Final = "\n".join(
    [
        "",
        "text { font: 13px system-ui, sans-serif; fill: #24292f; }",
        ".axis { stroke: #57606a; } .grid { stroke: #57606a; opacity: .25; }",
        "polyline { stroke-width: 2; } .wide { stroke-width: 7; } circle { fill-opacity: .6; }",
        *(
            f".c{number} {{ fill: {colour}; }} polyline.c{number} {{ fill: none; stroke: {colour}; }}"
            for number, colour in enumerate(COLOURS)
        ),
        "@media (prefers-color-scheme: dark) {",
        "text { fill: #e6edf3; } .axis { stroke: #9da7b3; } .grid { stroke: #9da7b3; opacity: .25; }",
        "}",
        "",
    ]
)


def _colour(number: int) -> str:
    return f"c{number % len(COLOURS)}"


def roc_figure(curves: Mapping[str, Points]) -> str:
    """ROC curves, one per detector, with the diagonal; the first is wider, so that another on top does not hide it."""
    left, top, side = 60.0, 30.0, 340.0
    drawing = Drawing("roc", WIDTH, int(top + side + 50), "ROC of the detectors")
    drawing.line(left, top + side, left + side, top, "grid")
    for tick in (0.0, 0.5, 1.0):
        drawing.text(left + side * tick, top + side + 18, f"{tick:g}", anchor="middle")
        drawing.text(left - 8, top + side * (1 - tick) + 4, f"{tick:g}", anchor="end")
    drawing.line(left, top, left, top + side, "axis")
    drawing.line(left, top + side, left + side, top + side, "axis")
    drawing.text(left + side / 2, top + side + 38, "share of benign models above the threshold", anchor="middle")
    drawing.text(left - 8, top - 12, "share of backdoored models")
    for number, (name, points) in enumerate(curves.items()):
        colour = _colour(number)
        path = [(left + side * x, top + side * (1 - y)) for x, y in points]
        drawing.polyline(path, colour if number else f"{colour} wide")
        y = top + 20 + 22 * number
        drawing.rectangle(left + side + 24, y - 10, 14, 4, colour)
        drawing.text(left + side + 44, y - 3, name)
    return drawing.file(_STYLE)


def strip_figure(groups: Mapping[str, Sequence[float]], floor: float = 1e-4) -> str:
    """Each group's values of T as dots on a logarithmic axis; values below the floor are drawn at the floor."""
    left, right, row = 215.0, WIDTH - 20.0, 46.0
    values = [max(value, floor) for group in groups.values() for value in group] or [floor, 1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    bottom = 20 + row * len(groups)
    drawing = Drawing("scores", WIDTH, int(bottom + 50), "T of backdoored, benign and decoy units")
    for power in range(low, high + 1):
        x = left + (right - left) * (power - low) / (high - low)
        drawing.line(x, 10, x, bottom, "grid")
        drawing.text(x, bottom + 18, f"1e{power}" if power else "1", anchor="middle")
    for number, (name, group) in enumerate(groups.items()):
        y = 20 + row * number + row / 2
        drawing.text(left - 12, y + 4, f"{name} ({len(group)})", anchor="end")
        for rank, value in enumerate(sorted(group)):
            x = left + (right - left) * (math.log10(max(value, floor)) - low) / (high - low)
            shift = 10 * ((rank * 7) % 5 / 2 - 1)
            drawing.circle(x, y + shift, 4, _colour(number))
    drawing.text((left + right) / 2, bottom + 38, "T, nats per carrier", anchor="middle")
    return drawing.file(_STYLE)


def heat_figure(rows: Mapping[str, Mapping[int, float]]) -> str:
    """Rows are units, columns are layers; the more opaque a cell, the larger the effect there, as a share of its
    row.
    """
    layers = sorted({layer for row in rows.values() for layer in row})
    left, cell, height = 290.0, 60.0, 20.0
    drawing = Drawing("layers", WIDTH, int(34 + height * len(rows)), "Effect by layer")
    for column, layer in enumerate(layers):
        drawing.text(left + cell * (column + 0.5), 16, f"layer {layer}", anchor="middle")
    for number, (name, row) in enumerate(rows.items()):
        y = 24 + height * number
        drawing.text(left - 8, y + 15, name, anchor="end")
        most = max([*row.values(), 1e-12])
        for column, layer in enumerate(layers):
            share = max(row.get(layer, 0.0), 0.0) / most
            x = left + cell * column
            drawing.rectangle(x + 1, y + 1, cell - 2, height - 2, _colour(0), opacity=0.06 + 0.94 * share)
    return drawing.file(_STYLE)
