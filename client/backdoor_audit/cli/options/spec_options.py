"""The options of ``submit`` and ``search`` that come from ``contract.options``, added to a command's signature so that
typer sees them.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from backdoor_audit.contract.spec.carriers import CarrierSet
from backdoor_audit.contract.spec.options import SPEC_OPTIONS, Group, Kind, SpecOption

PANELS: Final[dict[Group, str]] = {
    "models": "Models",
    "trigger": "Suspected pair",
    "search": "Search",
    "prompts": "Prompts",
    "method": "Method",
    "run": "Run",
    "result": "Result",
}
"""Heading of each group of options in ``--help``."""

_TYPES: Final[dict[Kind, Any]] = {"integer": int, "strings": Path, "lines": Path, "pairs": Path, "labels": list[str]}


def with_spec_options(command: Callable[..., int], *, searches: bool) -> Callable[..., int]:
    """``command`` with an option for each row of ``SPEC_OPTIONS`` that is meant for it, passed to it as ``**typed``.

    Args:
        command: takes ``searches`` as well.
        searches: whether the options are those of a search, instead of those of a pair.
    """
    without: Group = "trigger" if searches else "search"
    parameters = inspect.signature(command).parameters.values()
    own = [each for each in parameters if each.name not in ("searches", "typed")]
    context, *others = own
    added = [_parameter(option) for option in SPEC_OPTIONS if option.command and option.group != without]

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> int:
        return command(*arguments, searches=searches, **options)

    run.__signature__ = inspect.Signature([context, *added, *others], return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (context, *added, *others)}
    return run


def _parameter(option: SpecOption) -> inspect.Parameter:
    kind: Any = Literal[option.choices] if option.kind == "choice" else _TYPES.get(option.kind, str)
    said = f"{option.help}  [default: {shown}]" if (shown := _default(option)) else option.help
    annotation: Any = Annotated[kind | None, typer.Option(option.flag, help=said, rich_help_panel=PANELS[option.group])]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default(option: SpecOption) -> str:
    """What the service takes where the option is left out, as it would be typed; empty where that is nothing."""
    value = option.default
    if isinstance(value, CarrierSet):
        return value.set
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None or value == {} else str(value).replace("\n", "\\n")
