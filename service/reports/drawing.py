"""SVG without scripts and colours, inline or as a file: classes carry the colours, for a light and a dark scheme.

Text is escaped. Coordinates are in units of the view box, about one pixel each on a page.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from backdoor_audit.contract.text.foreign_text import readable


class Drawing:
    """One picture with a given width and height; ``title`` is for screen readers."""

    def __init__(self, name: str, width: float, height: float, title: str) -> None:
        self.name, self.width, self.height, self.title = name, width, height, title
        self._parts: list[Markup] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, css=css)

    def polyline(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Straight lines from point to point."""
        self._add("polyline", points=_joined(points), css=css)

    def rectangle(
        self, x: float, y: float, width: float, height: float, css: str, tip: str = "", opacity: float | None = None
    ) -> None:
        """A filled rectangle; ``tip`` is shown on hovering; ``opacity``, from 0 to 1, is the class's by default."""
        shade = {} if opacity is None else {"fill-opacity": f"{opacity:.2f}"}
        self._add("rect", tip, x=x, y=y, width=max(width, 0.0), height=height, css=css, **shade)

    def circle(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """A filled circle."""
        self._add("circle", tip, cx=x, cy=y, r=radius, css=css)

    def triangle(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """A triangle that points up."""
        self._polygon(((x, y - radius), (x + radius, y + radius * 0.8), (x - radius, y + radius * 0.8)), css, tip)

    def diamond(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """A square standing on its corner."""
        self._polygon(((x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)), css, tip)

    def square(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        """A square around its centre."""
        self.rectangle(x - radius, y - radius, 2 * radius, 2 * radius, css, tip)

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        """One line of text; ``y`` is its baseline."""
        self._parts.append(
            Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
                _short(x), _short(y), css, anchor, readable(words)
            )
        )

    def render(self) -> Markup:
        """The picture as an element of a page, whose style sheet has its classes."""
        return self._rendered(Markup(""), Markup(""), Markup(""))

    def file(self, style: str) -> str:
        """The picture as a file of its own, one element a line, with ``style`` as its style sheet."""
        namespace = Markup(' xmlns="http://www.w3.org/2000/svg"')
        sheet = Markup("<style>{}</style>").format(Markup(style))
        return f"{self._rendered(namespace, sheet, Markup(chr(10)))}\n"

    def _rendered(self, namespace: Markup, sheet: Markup, between: Markup) -> Markup:
        return Markup(
            '<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-labelledby="{name}-title"{namespace}>'
            '<title id="{name}-title">{}</title>{}'
        ).format(
            readable(self.title),
            between.join([sheet, *self._parts, Markup("</svg>")]),
            name=self.name,
            namespace=namespace,
            width=_short(self.width),
            height=_short(self.height),
        )

    def _polygon(self, points: Sequence[tuple[float, float]], css: str, tip: str) -> None:
        self._add("polygon", tip, points=_joined(points), css=css)

    def _add(self, tag: str, tip: str = "", *, css: str, **values: float | str) -> None:
        attributes = Markup("").join(
            Markup(' {}="{}"').format(name, _short(value) if isinstance(value, float | int) else value)
            for name, value in values.items()
        )
        inside = Markup("<title>{}</title>").format(readable(tip)) if tip else Markup("")
        self._parts.append(Markup('<{0} class="{1}"{2}>{3}</{0}>').format(Markup(tag), escape(css), attributes, inside))


class Symlog:
    """Linear up to ``linear``, logarithmic beyond it, on both sides of zero: shows 0.01 and 12 nats in one picture."""

    def __init__(self, low: float, high: float, linear: float, left: float, right: float) -> None:
        self._linear, self._left, self._right = linear, left, right
        self.low, self.high = min(low, 0.0), max(high, linear)
        self._low, self._high = self._bend(self.low), self._bend(self.high)

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        share = (self._bend(value) - self._low) / (self._high - self._low)
        return self._left + share * (self._right - self._left)

    def ticks(self) -> list[float]:
        """Zero and the powers of ten in the range, far enough apart to be legible."""
        powers = [10.0**power for power in range(math.ceil(math.log10(self._linear)), 7)]
        values = [0.0, *(p for p in powers if p <= self.high), *(-p for p in powers if -p >= self.low)]
        kept: list[float] = []
        for value in sorted(values, key=abs):
            if all(abs(self(value) - self(other)) > 24 for other in kept):
                kept.append(value)
        return sorted(kept)

    def _bend(self, value: float) -> float:
        return math.copysign(math.log10(1 + abs(value) / self._linear), value)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
