"""Return whether two OpenAPI documents describe the same interface.

``python -m tools.compare_openapi OLD NEW`` compares paths, methods, parameters, bodies, answers, fields and problem
codes, and exits with 1 and a list of differences where the two are not alike. Titles, summaries, descriptions and
examples may differ, and so may where a document writes something: in place, or under ``components`` and by reference.
Each document is a file, or ``REVISION:PATH`` for one that git has.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.differences import report

PROSE: Final = frozenset({"title", "summary", "description", "example", "examples", "$comment"})
"""Keys whose values are for people alone."""
NAMED: Final = frozenset({"properties", "$defs", "patternProperties"})
"""Keys of a schema under which every key is a name: a field may be called ``title``."""
SETS: Final = frozenset({"required", "enum", "type", "tags", "scopes"})
"""Lists in which order means nothing."""
PROBLEM: Final = "application/problem+json"


def interface(document: dict[str, Any]) -> dict[str, str]:
    """The interface that a document describes, as one line of text for each fact, by what the fact is about."""
    return dict(_facts(document))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What two documents do not agree about, one line each, sorted."""
    left, right = interface(old), interface(new)
    lines = [f"removed: {key}{_equals(left[key])}" for key in left.keys() - right.keys()]
    lines += [f"added: {key}{_equals(right[key])}" for key in right.keys() - left.keys()]
    lines += [
        f"changed: {key}: {left[key]} is now {right[key]}"
        for key in left.keys() & right.keys()
        if left[key] != right[key]
    ]
    return sorted(lines)


def _equals(value: str) -> str:
    return f" = {value}" if value else ""


def _facts(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                yield from _operation(document, f"{method.upper()} {path}", operation, shared)
    components = document.get("components", {})
    for name, schema in components.get("schemas", {}).items():
        yield f"schema {name}", ""
        yield from _schema(schema, f"schema {name}")
    for name, scheme in components.get("securitySchemes", {}).items():
        yield from _schema(scheme, f"security scheme {name}")


def _operation(
    document: dict[str, Any], name: str, operation: dict[str, Any], shared: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    yield name, ""
    yield f"{name}: operationId", operation.get("operationId", "")
    for requirement in operation.get("security", document.get("security", [])):
        for scheme, scopes in requirement.items():
            yield f"{name}: security {scheme}", " ".join(sorted(scopes))
    for each in (*shared, *operation.get("parameters", ())):
        parameter = _resolved(document, each)
        where = f"{name}: {parameter['in']} parameter {parameter['name']}"
        yield where, "required" if parameter.get("required") else "optional"
        yield from _schema(parameter.get("schema", {}), where)
    if "requestBody" in operation:
        body = _resolved(document, operation["requestBody"])
        yield f"{name}: body", "required" if body.get("required") else "optional"
        yield from _content(document, f"{name}: body", body.get("content", {}))
    for status, each in operation["responses"].items():
        answer = _resolved(document, each)
        where = f"{name}: {status}"
        yield where, ""
        for header, value in answer.get("headers", {}).items():
            yield f"{where}: header {header}", ""
            yield from _schema(_resolved(document, value).get("schema", {}), f"{where}: header {header}")
        yield from _content(document, where, answer.get("content", {}))


def _content(document: dict[str, Any], where: str, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for media_type, body in content.items():
        yield f"{where}: {media_type}", ""
        yield from _schema(body.get("schema", {}), f"{where}: {media_type}")
        if media_type == PROBLEM:
            for example in body.get("examples", {}).values():
                yield f"{where}: problem code {_resolved(document, example)['value']['code']}", ""


def _schema(schema: Any, where: str) -> Iterator[tuple[str, str]]:
    """The facts of a schema. References to other schemas stay: their names are what generated clients call them."""
    if not isinstance(schema, dict):
        yield where, json.dumps(schema, ensure_ascii=False)
        return
    for key, value in schema.items():
        if key in PROSE:
            continue
        if key in NAMED:
            for name, field in value.items():
                yield f"{where}: field {name}", ""
                yield from _schema(field, f"{where}: field {name}")
        elif key in SETS and isinstance(value, list):
            for one in value:
                yield f"{where}: {key} {json.dumps(one, ensure_ascii=False)}", ""
        elif isinstance(value, list):
            for place, one in enumerate(value):
                yield from _schema(one, f"{where}: {key}[{place}]")
        else:
            yield from _schema(value, f"{where}: {key}")


def _resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for; anything else is itself."""
    while "$ref" in value:
        target: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        value = target
    return value


def read(source: str) -> dict[str, Any]:
    """A document from a file, or from ``REVISION:PATH`` in git."""
    path = Path(source)
    if path.exists() or ":" not in source:
        text = path.read_text(encoding="utf-8")
    else:
        text = subprocess.run(["git", "show", source], capture_output=True, check=True, encoding="utf-8").stdout
    document: dict[str, Any] = json.loads(text)
    return document


def main(arguments: list[str] | None = None) -> int:
    """Compare two documents; 1 if they describe different interfaces."""
    return report(
        "python -m tools.compare_openapi",
        __doc__,
        arguments,
        read=read,
        differences=differences,
        agreement=lambda new: f"The same interface: {len(interface(new))} facts about {len(new['paths'])} paths agree.",
        source="a file, or REVISION:PATH",
    )


if __name__ == "__main__":
    sys.exit(main())
