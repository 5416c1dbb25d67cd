"""Templates, static files and the headers of every page."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backdoor_audit.contract.decisions import CHOICE_TITLES
from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report import words
from backdoor_audit.contract.text.formatting import duration, number, share
from jobs.records import AuditRecord
from service.http.etags import matches, tag_of
from service.http.public_url import link
from service.reports.page import shown

_FOLDER: Final = Path(__file__).parent
_TYPES: Final = {
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "upload.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


def page(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> Response:
    """One page. ``visitor`` decides what its menu offers; None before signing in."""
    context = {"visitor": None, "signs_in": request.app.state.keys_required} | context
    content = _environment().get_template(template).render(path=request.url.path, **context)
    sent = HEADERS | dict(headers or {})
    return Response(content, status_code=status, media_type="text/html; charset=utf-8", headers=sent)


def static(name: str, if_none_match: str | None) -> Response | None:
    """A static file; None if there is none of this name."""
    if name not in _TYPES:
        return None
    content = (_FOLDER / "static" / name).read_bytes()
    headers = {"ETag": tag_of(content), "Cache-Control": "no-cache"}
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[name], headers=headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=shown,
    )  # fmt: skip
    environment.filters |= {
        "typed": typed, "moment": moment, "number": number, "share": share, "words": _words, "took": took,
        "duration": duration,
    }  # fmt: skip
    environment.globals |= {
        "marks": words.VERDICT_MARKS, "gate_marks": words.GATE_MARKS, "titles": words.VERDICT_TITLES,
        "choices": CHOICE_TITLES, "terminal": TERMINAL, "query": query, "base": lambda: link(""),
    }  # fmt: skip
    return environment


def typed(value: Any) -> Markup:
    """What a visitor has typed, for its field: character for character, because it is sent again."""
    return escape(value)


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def took(record: AuditRecord) -> str:
    """How long an audit ran, from its first claim to its end."""
    if record.started_at is None or record.finished_at is None:
        return "–"
    return duration((record.finished_at - record.started_at).total_seconds())


def query(**values: Any) -> str:
    """A query string of the values that are not empty."""
    return urlencode({name: value for name, value in values.items() if value not in (None, "")})


def _words(name: str) -> str:
    return str(name).replace("_", " ")
