"""The formats that a report is served in, and content negotiation between them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from service.errors import NotAcceptable
from service.reports import junit, markdown, page, sarif
from service.reports.subject import Subject


@dataclass(frozen=True)
class Format:
    """One format: its name in ``?format=``, its media type, and its renderer."""

    name: str
    media_type: str
    render: Callable[[Subject], bytes]
    file_suffix: str
    charset: bool = False
    """Whether the type needs a character set."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Additional headers of a response in this format."""

    @property
    def content_type(self) -> str:
        """The ``Content-Type`` of a response."""
        return f"{self.media_type}; charset=utf-8" if self.charset else self.media_type


def _json(subject: Subject) -> bytes:
    return subject.report.model_dump_json().encode()


FORMATS: Final[tuple[Format, ...]] = (
    Format("json", "application/json", _json, ".json"),
    Format("html", "text/html", page.render, ".html", charset=True, headers={"Content-Security-Policy": page.POLICY}),
    Format("sarif", "application/sarif+json", sarif.render, ".sarif"),
    Format("junit", "application/xml", junit.render, ".xml"),
    Format("markdown", "text/markdown", markdown.render, ".md", charset=True),
)
"""In order of preference if a request leaves the choice."""

NAMES: Final = tuple(form.name for form in FORMATS)


def choose(name: str | None, accept: str | None) -> Format:
    """The format that a request asks for: by name, or else by its ``Accept`` header, or else JSON.

    Raises:
        NotAcceptable: there is no such format.
    """
    if name is not None:
        for form in FORMATS:
            if form.name == name:
                return form
        raise NotAcceptable
    if accept is None or not accept.strip():
        return FORMATS[0]
    weighed = [(_weight(form.media_type, accept), -place) for place, form in enumerate(FORMATS)]
    best, place = max(weighed)
    if best <= 0:
        raise NotAcceptable
    return FORMATS[-place]


def _weight(media_type: str, accept: str) -> float:
    """The weight that an ``Accept`` header gives a type: that of the most specific matching range."""
    family = media_type.split("/")[0]
    ranks = {media_type: 3, f"{family}/*": 2, "*/*": 1}
    best, weight = 0, 0.0
    for media_range in accept.lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        rank = ranks.get(name, 0)
        if rank > best:
            best, weight = rank, _quality(parameters)
    return weight


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if match := re.fullmatch(r"q\s*=\s*([01](?:\.\d{0,3})?)", parameter):
            return min(float(match[1]), 1.0)
    return 1.0
