"""Reference pages written from the code: command, Python client, settings, the report's fields; the picture of decoys.

``python -m tools.reference --write`` writes ``docs/reference``, ``--check`` fails when a committed file differs.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import typer
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from typer.cli import get_docs_for_click

from backdoor_audit import AuditClient
from backdoor_audit.cli.main import whole_command
from backdoor_audit.client import errors
from service.openapi_document.report_schema import report_schema
from service.settings import Settings
from tools.checkpoints import checkpoints_page
from tools.strip import strip
from worker.settings import WorkerSettings

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

_WRITTEN: Final = "<!-- Written by `python -m tools.reference --write`; do not edit. -->\n\n"

_COMMAND: Final = """\
# The command

Exit codes are in [the outline](../api.md#the-command). Results go to standard output, what is said about them to
standard error. The key of the service is read from `BACKDOOR_AUDIT_API_KEY`; there is no option for it, since `ps`
would show it.

"""

_SETTINGS: Final = """\
# Settings

Environment variables, each `BACKDOOR_AUDIT_` and the name. API and workers read them once, when they start. A
process refuses to start with a setting that it cannot use, and names it without repeating its value. Lists are
separated by commas.

`serve` takes `--data-dir`, `--models-root`, `--host`, `--port` (8321 by default), `--database-url` and
`--broker-url`, and hands every other setting on to its children. The command reads `BACKDOOR_AUDIT_URL` and
`BACKDOOR_AUDIT_API_KEY` besides, and `attest` `BACKDOOR_AUDIT_KEY_PASSWORD`; the Python client reads no variables.
`OMP_NUM_THREADS` and `CUDA_VISIBLE_DEVICES` reach the sandbox; most of the environment does not.

"""

_REPORT: Final = """\
# The report's fields

From the JSON schema that `GET /schemas/report` answers (`openapi/report.schema.json`), layout {version}. Every
field is always there; null says "not measured". T is the causal effect of the leading direction, A and B are the
two halves of the carriers: [the method](../method.md) defines the words, [the outline](../api.md#the-report) says
what belongs together and how versions differ.

"""

_PYTHON: Final = """\
# The Python client

Methods of `backdoor_audit.AuditClient`. `backdoor_audit.AsyncAuditClient` has the same methods, to be awaited; an
iterator here is an asynchronous iterator there. [How to call it](../how-to/python.md) shows both at work.

"""

_BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def command_page() -> str:
    """What ``--help`` says of every command, by typer's own generator."""
    root = whole_command()
    _whole_summaries(root)
    context: Any
    with typer.Context(root) as context:
        text = get_docs_for_click(obj=root, ctx=context, name=str(root.name))
    lower = re.sub(r"(?m)^#", "##", text)
    return _COMMAND + lower.strip() + "\n"


def python_page() -> str:
    """Every public method with its signature and what its docstring says, and the tree of errors."""
    named = {"AuditClient": AuditClient} | {name: each for name, each in vars(AuditClient).items() if name[0] != "_"}
    parts = [
        f"## {name}\n\n```python\n{name}{_signature(each)}\n```\n\n{_docstring(inspect.getdoc(each) or '')}\n"
        for name, each in named.items()
    ]
    tree = (errors.__doc__ or "").split("::", 1)[1].strip("\n")
    parts.append(f"## Errors\n\nOf `backdoor_audit.client.errors`:\n\n```text\n{inspect.cleandoc(tree)}\n```\n")
    return _PYTHON + "\n".join(parts)


def settings_page() -> str:
    """Tables of what both processes read, of what the API reads, of what a worker reads."""
    api, worker = Settings.model_fields, WorkerSettings.model_fields
    both = [name for name in worker if name in api]
    parts = [
        _section("API and worker", ("name", "default", "takes", "meaning"), map(_shared, both)),
        _section("API alone", ("name", "default", "takes", "meaning"), _own(Settings, both)),
        _section("Worker alone", ("name", "default", "takes", "meaning"), _own(WorkerSettings, both)),
    ]
    return _SETTINGS + "\n".join(parts)


def report_page() -> str:
    """A table for the report and for each kind of object in it, in the order in which they are met."""
    schema = report_schema()
    order, seen = ["AuditReport"], {"AuditReport": schema}
    for name in order:
        for other in re.findall(r"'#/\$defs/(\w+)'", str(seen[name].get("properties", {}))):
            if other not in seen:
                order.append(other)
                seen[other] = schema["$defs"][other]
    version = re.search(r"\d+\.\d+", schema["$comment"])
    parts = [_REPORT.format(version=version[0] if version else "")]
    for name in order:
        rows = ((f"`{field}`", _type(part), part.get("description", "")) for field, part in _fields(seen[name]))
        parts.append(_section(name, ("field", "type", "meaning"), rows, seen[name].get("description", "")))
    return "\n".join(parts)


PAGES: Final = {
    "command.md": command_page,
    "python.md": python_page,
    "settings.md": settings_page,
    "report.md": report_page,
    "checkpoints.md": checkpoints_page,
}


def texts() -> dict[Path, str]:
    """What each page, and the picture, has to hold."""
    pages = {DOCS / "reference" / name: _WRITTEN + page() for name, page in PAGES.items()}
    return pages | {DOCS / "images" / "decoys.svg": strip()}


def _signature(what: Any) -> str:
    """As it is called: without self, modules and a constructor's None."""
    signature = inspect.signature(what)
    kept = [each for each in signature.parameters.values() if each.name != "self"]
    result = inspect.Signature.empty if inspect.isclass(what) else signature.return_annotation
    text = str(signature.replace(parameters=kept, return_annotation=result))
    text = re.sub(r"<function .*? at 0x[0-9a-f]+>", "…", text)
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text).replace("'", '"')


def _docstring(text: str) -> str:
    """A docstring as Markdown: roles as code, the lists of arguments and errors as lists."""
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(?m)^(Args|Raises):\n", r"\1:\n\n", text)
    text = re.sub(r"\n {8,}", " ", text)
    return re.sub(r"(?m)^ {4}(\w+): ", r"- `\1`: ", text)


def _whole_summaries(command: click.Command) -> None:
    """Let lists of commands show the first sentence whole, not its first words."""
    for each in getattr(command, "commands", {}).values():
        each.short_help = each.short_help or (each.help or "").split("\n\n")[0].replace("\n", " ")
        _whole_summaries(each)


def _fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()


def _shared(name: str) -> tuple[str, ...]:
    ours, theirs = Settings.model_fields[name], WorkerSettings.model_fields[name]
    defaults = _default(ours), _default(theirs)
    # The worker's addresses are empty if they follow from its data folder, as the API's do.
    default = defaults[0] if defaults[1] in (defaults[0], "none") else f"API {defaults[0]}, worker {defaults[1]}"
    said = (ours.description or "", theirs.description or "")
    meaning = said[0] if said[0] == said[1] else f"API: {said[0]} Worker: {said[1]}"
    return f"`{name.upper()}`", default, _takes(Settings, name), meaning


def _own(settings: type[BaseSettings], shared: list[str]) -> Iterator[tuple[str, ...]]:
    for name, field in settings.model_fields.items():
        if name not in shared:
            yield f"`{name.upper()}`", _default(field), _takes(settings, name), field.description or ""


def _takes(settings: type[BaseSettings], name: str) -> str:
    return _type(settings.model_json_schema()["properties"][name]).removesuffix(" or null")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:  # from the data folder
        return f"`{field.get_default(call_default_factory=True, validated_data={'data_dir': 'DATA_DIR'})}`"
    value = field.get_default()
    if value is None or value == "" or value == () or value == frozenset():
        return "none"
    if isinstance(value, tuple):
        return f"`{', '.join(map(str, value))}`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words; ``enum`` as its values, objects as links to their tables."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(map(_type, schema['prefixItems']))}]".replace("[", "\\[", 1)
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        inner = schema.get("additionalProperties")  # true where any value will do
        return f"object of {_type(inner)}" if isinstance(inner, Mapping) and inner else "object"
    if schema.get("format") == "path":
        return "path"
    words = {"string": "text", "boolean": "`true`, `false`"}.get(kind, kind)
    bounds = [f"{sign} {schema[bound]:,}" for bound, sign in _BOUNDS.items() if bound in schema]
    return f"{words} {', '.join(bounds)}".strip()


def _section(title: str, head: tuple[str, ...], rows: Any, text: str = "") -> str:
    table = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    table += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n\n".join(part for part in (f"## {title}", _plain(text), "\n".join(table)) if part) + "\n"


def _cell(text: str) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Docstrings' double backticks as Markdown's single ones; what Markdown or HTML would read, as it is."""
    pieces = re.split(r"(`[^`]+`|\[\w+\]\(#\w+\))", text.replace("``", "`"))
    return "".join(
        piece if index % 2 else re.sub(r"([*_<])", r"\\\1", piece).replace("\\\\[", "\\[")
        for index, piece in enumerate(pieces)
    )


def main(arguments: list[str] | None = None) -> int:
    """Write or check the committed pages; 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the pages in docs/reference")
    action.add_argument("--check", action="store_true", help="fail when one of them differs")
    chosen = parser.parse_args(arguments)
    for path, wanted in texts().items():
        if chosen.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != wanted:
            sys.stderr.write(f"docs/{path.relative_to(DOCS)} differs; run: python -m tools.reference --write\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
