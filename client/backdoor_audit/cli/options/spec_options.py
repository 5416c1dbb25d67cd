"""The options of ``submit`` that come from ``contract.options``, added to a command's signature for typer to read."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from backdoor_audit.contract.spec.options import SPEC_OPTIONS, Kind, SpecOption

_TYPES: Final[dict[Kind, Any]] = {"integer": int, "strings": Path, "pairs": Path, "labels": list[str]}


def with_spec_options(command: Callable[..., int]) -> Callable[..., int]:
    """``command`` with an option for each row of ``SPEC_OPTIONS`` that is meant for it, handed to it as ``**typed``."""
    own = [each for each in inspect.signature(command).parameters.values() if each.name != "typed"]
    context, *others = own
    added = [_parameter(option) for option in SPEC_OPTIONS if option.command]

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> int:
        return command(*arguments, **options)

    run.__signature__ = inspect.Signature([context, *added, *others], return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (context, *added, *others)}
    return run


def _parameter(option: SpecOption) -> inspect.Parameter:
    kind: Any = Literal[option.choices] if option.kind == "choice" else _TYPES.get(option.kind, str)
    annotation: Any = Annotated[kind | None, typer.Option(option.flag, help=option.help)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
