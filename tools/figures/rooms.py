"""The tables of rooms: what import-linter checks, in words."""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


def figures() -> dict[str, str]:
    """What each contract of import-linter says, from pyproject.toml and the packages' docstrings."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms, folders, *forbidden = settings["tool"]["importlinter"]["contracts"]
    return {
        "rooms": _table("room", rooms),
        "audit-folders": _table("in `audit/`", folders),
        "forbidden-imports": " ".join(
            f"{_listed(one['source_modules'], 'and')} never import {_listed(one['forbidden_modules'], 'or')}."
            for one in forbidden
        ),
    }


def _listed(names: Sequence[str], last: str) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def _table(head: str, contract: Mapping[str, Any]) -> str:
    layers = [[part.strip() for part in layer.split("|")] for layer in contract["layers"]]
    exceptions = [rule.split(" -> ") for rule in contract.get("ignore_imports", ())]
    lines = [f"| {head} | holds | may import of ours |", "| --- | --- | --- |"]
    for depth, layer in enumerate(layers):
        below = [name for lower in layers[depth + 1 :] for name in lower]
        for name in layer:
            own = [other for module, other in exceptions if module.startswith(f"{name}.")]
            lines.append(f"| {_shown(name)} | {_held(name)} | {_imports(below, own)} |")
    return "\n".join(lines)


def _imports(below: Sequence[str], exceptions: Sequence[str]) -> str:
    allowed = [f"`{name.removeprefix('audit.')}`" for name in (*below, *exceptions)]
    return ", ".join(allowed) or "nothing"


def _shown(name: str) -> str:
    path = _path(name).relative_to(ROOT)
    shown = path.as_posix().removeprefix("audit/") if "." in name else path.as_posix()
    return f"`{shown.removesuffix('/__init__.py')}/`" if path.name == "__init__.py" else f"`{shown}`"


def _held(name: str) -> str:
    """The first sentence of a package's or a module's docstring."""
    text = ast.get_docstring(ast.parse(_path(name).read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", "\\|")


def _path(name: str) -> Path:
    """The file of a package or a module; that of the client lies in a distribution of its own."""
    inner = name.replace(".", "/")
    places = [ROOT / part / file for part in ("", "client") for file in (f"{inner}/__init__.py", f"{inner}.py")]
    return next(place for place in places if place.is_file())
