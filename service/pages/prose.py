"""Pages made from the documentation: the glossary, and what to do with each verdict. They need no key."""

import re
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from service.http.auth import Caller
from service.http.public_url import link
from service.pages.rendering import page
from service.pages.respond import show_public

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parent / "content"
_SERVED: Final = {"glossary.md": "/glossary", "verdicts.md": "/playbooks"}
"""Pages of the documentation that are served; links to others become plain text."""
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_NO_SLUG: Final = re.compile(r"[^\w\- ]")


@router.get("/glossary")
async def glossary_page(request: Request) -> Response:
    """The terms of reports, API and pages."""
    return await show_public(request, lambda caller: _prose(request, caller, "glossary"))


@router.get("/playbooks")
async def playbooks_page(request: Request) -> Response:
    """What to do with each verdict."""
    return await show_public(request, lambda caller: _prose(request, caller, "playbooks"))


def _prose(request: Request, caller: Caller | None, name: str) -> Response:
    title, html = rendered(_FOLDER / f"{name}.md")
    content = Markup(html.replace("\0", link("")))
    return page(request, "prose.html", visitor=caller, title=title, content=content)


@cache
def rendered(path: Path) -> tuple[str, str]:
    """Title and HTML of a page of the documentation; a NUL stands for the service's own path."""
    text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    title = ""
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            said = tokens[index + 1].content
            title = title or said
            token.attrSet("id", slug(said))
        if token.type in ("fence", "code_block"):
            token.attrSet("tabindex", "0")
        if token.children:
            token.children = _with_links(token.children)
    return title, parser.renderer.render(tokens, parser.options, {})


def slug(heading: str) -> str:
    """A heading's anchor, as code hosts and the documentation's site make it."""
    return _NO_SLUG.sub("", heading.replace("`", "").lower()).strip().replace(" ", "-")


def _with_links(tokens: list[Token]) -> list[Token]:
    """Links to pages that are served, to places on the same page, and to other hosts; of others the text alone."""
    kept: list[Token] = []
    dropped = False
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href") or ""))
            dropped = target is None
            if target is not None:
                token.attrSet("href", target)
        if token.type in ("link_open", "link_close") and dropped:
            continue
        kept.append(token)
    return kept


def _target(href: str) -> str | None:
    parts = urlsplit(href)
    if parts.scheme in ("http", "https") or (not parts.path and parts.fragment):
        return href
    served = _SERVED.get(Path(parts.path).name)
    if served is None:
        return None
    return f"\0{served}#{parts.fragment}" if parts.fragment else f"\0{served}"
