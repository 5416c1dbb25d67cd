"""Figures as SVG, written by hand: legible on a light and on a dark page."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

Points = Sequence[tuple[float, float]]

WIDTH: Final = 640
# Colours that keep their contrast on white and on near-black.
COLOURS: Final = ("#2f81c1", "#d1603d", "#3a9a5b", "#9467bd", "#b58900", "#7f8790")
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.axis{stroke:#57606a}.grid{stroke:#57606a;opacity:.25}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.axis{stroke:#9da7b3}.grid{stroke:#9da7b3;opacity:.25}}"
)


def _svg(height: int, title: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            *body,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def roc_figure(curves: Mapping[str, Points]) -> str:
    """ROC curves, one a detector, with the diagonal; the first is wide, so that one on top of it does not hide it."""
    left, top, side = 60.0, 30.0, 340.0

    def at(point: tuple[float, float]) -> str:
        return f"{left + side * point[0]:.1f},{top + side * (1 - point[1]):.1f}"

    body = [_line(left, top + side, left + side, top, "grid")]
    for tick in (0.0, 0.5, 1.0):
        body += [
            _text(left + side * tick, top + side + 18, f"{tick:g}", anchor="middle"),
            _text(left - 8, top + side * (1 - tick) + 4, f"{tick:g}", anchor="end"),
        ]
    body += [
        _line(left, top, left, top + side, "axis"),
        _line(left, top + side, left + side, top + side, "axis"),
        _text(left + side / 2, top + side + 38, "share of benign models above the threshold", anchor="middle"),
        _text(left - 8, top - 12, "share of backdoored models"),
    ]
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(map(at, points))
        width = 2 if number else 7
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        y = top + 20 + 22 * number
        body.append(f'<rect x="{left + side + 24:.0f}" y="{y - 10:.0f}" width="14" height="4" fill="{colour}"/>')
        body.append(_text(left + side + 44, y - 3, name))
    return _svg(int(top + side + 50), "ROC of the detectors", body)


def strip_figure(groups: Mapping[str, Sequence[float]], floor: float = 1e-4) -> str:
    """Each group's values of T as dots on a logarithmic axis; what is under the floor is drawn at the floor."""
    left, right, row = 215.0, WIDTH - 20.0, 46.0
    values = [max(value, floor) for group in groups.values() for value in group] or [floor, 1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    bottom = 20 + row * len(groups)
    body = []
    for power in range(low, high + 1):
        x = left + (right - left) * (power - low) / (high - low)
        body += [
            _line(x, 10, x, bottom, "grid"),
            _text(x, bottom + 18, f"1e{power}" if power else "1", anchor="middle"),
        ]
    for number, (name, group) in enumerate(groups.items()):
        y, colour = 20 + row * number + row / 2, COLOURS[number % len(COLOURS)]
        body.append(_text(left - 12, y + 4, f"{name} ({len(group)})", anchor="end"))
        for place, value in enumerate(sorted(group)):
            x = left + (right - left) * (math.log10(max(value, floor)) - low) / (high - low)
            shift = 10 * ((place * 7) % 5 / 2 - 1)
            body.append(f'<circle cx="{x:.1f}" cy="{y + shift:.1f}" r="4" fill="{colour}" fill-opacity="0.6"/>')
    body.append(_text((left + right) / 2, bottom + 38, "T, nats per carrier", anchor="middle"))
    return _svg(int(bottom + 50), "T of backdoored, benign and decoy units", body)


def heat_figure(rows: Mapping[str, Mapping[int, float]]) -> str:
    """Rows of units, columns of layers; the darker a cell, the larger the effect there, as a share of its row."""
    layers = sorted({layer for row in rows.values() for layer in row})
    left, cell, height = 290.0, 60.0, 20.0
    body = [
        _text(left + cell * (place + 0.5), 16, f"layer {layer}", anchor="middle") for place, layer in enumerate(layers)
    ]
    for number, (name, row) in enumerate(rows.items()):
        y = 24 + height * number
        body.append(_text(left - 8, y + 15, name, anchor="end"))
        most = max([*row.values(), 1e-12])
        for place, layer in enumerate(layers):
            share = max(row.get(layer, 0.0), 0.0) / most
            x = left + cell * place
            body.append(
                f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{cell - 2:.0f}" height="{height - 2:.0f}" '
                f'fill="{COLOURS[0]}" fill-opacity="{0.06 + 0.94 * share:.2f}"/>'
            )
    return _svg(int(34 + height * len(rows)), "Effect by layer", body)
