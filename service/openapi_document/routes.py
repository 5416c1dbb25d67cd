"""The API's documentation as one page: no scripts, no requests to other hosts."""

import base64
import hashlib
import json
import re
import shlex
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.http.public_url import link
from service.openapi_document.references import resolve
from service.version import VERSION_HEADER

router = APIRouter(include_in_schema=False)

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h2{margin-top:3rem;border-bottom:1px solid #d0d7de}h3{margin-top:2rem}code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f6f8fa;padding:1rem;overflow:auto;border-radius:6px}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #eaeef2}
summary{cursor:pointer}a{color:#0550ae}.method{display:inline-block;min-width:4.5rem}body{overflow-wrap:anywhere}td:nth-child(2){white-space:nowrap}
:focus-visible{outline:2px solid #0550ae}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}a{color:#79c0ff}:focus-visible{outline-color:#79c0ff}
td,th,h2{border-color:#30363d}}
"""

_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """The OpenAPI document, for people."""
    style_hash = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    headers = {"Content-Security-Policy": _POLICY.format(style_hash)}
    return Response(page(request.app.openapi()), media_type="text/html", headers=headers)


def page(document: dict[str, Any]) -> str:
    """Render an OpenAPI document."""
    groups = {tag["name"]: tag["description"] for tag in document.get("tags", ())}
    calls: dict[str, list[tuple[str, str, dict[str, Any]]]] = {name: [] for name in groups}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            calls.setdefault(operation.get("tags", ["calls"])[0], []).append((method, path, operation))
    contents = "".join(_entry(name, members) for name, members in calls.items())
    operations = [
        f'<h2 id="calls-{escape(name)}">{escape(name.capitalize())}</h2><p>{_prose(groups.get(name, ""))}</p>'
        + "".join(_operation(document, *member) for member in members)
        for name, members in calls.items()
    ]
    schemas = [
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> {escape(schema.get("description", ""))}'
        f"</summary>{_json(schema)}</details>"
        for name, schema in document["components"]["schemas"].items()
    ]
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<main><p><a href="{escape(link("/"))}">Audits</a></p><h1>{title}</h1>'
        f"<p>{_prose(document['info']['description'])}</p>"
        f'<p>For programs: <a href="{escape(link("/openapi.json"))}">/openapi.json</a></p>'
        f'<nav aria-label="Contents"><ul>{contents}<li><a href="#schemas">Schemas</a></li></ul></nav>'
        f'{"".join(operations)}<h2 id="schemas">Schemas</h2>{"".join(schemas)}</main></body></html>'
    )


def _entry(name: str, members: list[tuple[str, str, dict[str, Any]]]) -> str:
    """A group in the list of contents, with its calls."""
    links = ", ".join(
        f'<a href="#{escape(operation["operationId"])}">{escape(operation["summary"])}</a>'
        for _, _, operation in members
    )
    return f'<li><a href="#calls-{escape(name)}"><b>{escape(name.capitalize())}</b></a>: {links}</li>'


def _curl(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    """A call as a command line, with the first example of everything that it needs."""
    words = ["curl -sS"]
    if method not in ("get", "post") or (method == "post" and "requestBody" not in operation):
        words.append("-I" if method == "head" else f"-X {method.upper()}")
    if any("key" in entry for entry in operation.get("security", ())):
        words.append('-H "Authorization: Bearer $BACKDOOR_AUDIT_API_KEY"')
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, described in body.items():
        words.append(f"-H 'Content-Type: {media_type}'")
        examples = list(described.get("examples", {}).values())
        if examples and media_type.endswith("json"):
            value = json.dumps(resolve(document, examples[0])["value"], ensure_ascii=False)
            words.append("-d " + shlex.quote(value))
        else:
            words.append("--data-binary @FILE")
    for parameter in (resolve(document, each) for each in operation.get("parameters", ())):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", _first(parameter) or parameter["name"].upper())
    required = [
        f"{each['name']}={_first(each)}"
        for each in (resolve(document, one) for one in operation.get("parameters", ()))
        if each["in"] == "query" and each.get("required")
    ]
    address = f"$BACKDOOR_AUDIT_URL{path}" + (f"?{'&'.join(required)}" if required else "")
    return f'<pre tabindex="0">{escape(" ".join([*words, chr(34) + address + chr(34)]))}</pre>'


def _first(parameter: dict[str, Any]) -> str:
    values = [parameter["example"]] if "example" in parameter else parameter.get("schema", {}).get("examples", [])
    return str(values[0]) if values else ""


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<h3 id="{escape(operation["operationId"])}"><code><span class="method">{method.upper()}</span> '
        f"{escape(path)}</code></h3><p><b>{escape(operation['summary'])}.</b> "
        f"{_prose(operation.get('description', ''))}</p>",
        _curl(document, method, path, operation),
    ]
    for scheme, scopes in (item for entry in operation.get("security", ()) for item in entry.items()):
        if scopes:
            parts.append(f"<p>Needs a key with <code>{escape(' '.join(scopes))}</code>.</p>")
        else:
            described = document["components"]["securitySchemes"][scheme].get("description", "")
            parts.append(f"<p>Needs no API key. {_prose(described)}</p>")
    if parameters := [resolve(document, parameter) for parameter in operation.get("parameters", ())]:
        rows = [
            f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
            f"<td>{_prose(item.get('description', ''))}{_example(item)}</td></tr>"
            for item in parameters
        ]
        parts.append(f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{''.join(rows)}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body:</p>{_content(document, body['content'])}")
    for status, reference in operation["responses"].items():
        response = resolve(document, reference)
        parts.append(
            f"<details><summary><b>{escape(status)}</b> {_prose(response['description'])}</summary>"
            f"{_headers(document, response)}{_content(document, response.get('content', {}))}</details>"
        )
    return "".join(parts)


def _prose(text: str) -> str:
    """A description; text in backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _headers(document: dict[str, Any], response: dict[str, Any]) -> str:
    headers = {name: resolve(document, header) for name, header in response.get("headers", {}).items()}
    rows = [
        f"<li><code>{escape(name)}</code>: {_prose(header['description'])}{_example(header)}</li>"
        for name, header in headers.items()
        if name != VERSION_HEADER
    ]
    return f"<p>Headers:</p><ul>{''.join(rows)}</ul>" if rows else ""


def _example(described: dict[str, Any]) -> str:
    values = [described["example"]] if "example" in described else described.get("schema", {}).get("examples", [])
    shown = [value if isinstance(value, str) else json.dumps(value) for value in values[:1]]
    return "".join(f" Example: <code>{escape(value)}</code>." for value in shown)


def _content(document: dict[str, Any], content: dict[str, Any]) -> str:
    parts = []
    for media_type, described in content.items():
        name = described.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
        link = f': <a href="#{escape(name)}">{escape(name)}</a>' if name else ""
        parts.append(f"<p><code>{escape(media_type)}</code>{link}</p>")
        for reference in described.get("examples", {}).values():
            example = resolve(document, reference)
            parts.append(f"<p>{escape(example['summary'])}:</p>{_json(example['value'])}")
    return "".join(parts)


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    # Scrollable elements must be reachable by keyboard.
    return f'<pre tabindex="0">{escape(text)}</pre>'
