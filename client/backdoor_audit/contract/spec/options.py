"""Which fields of a spec can be set individually, under which name, and how their values are written.

The single list behind the options of ``backdoor-audit submit`` and the fields of the form for a new audit. A field's
meaning and its accepted values are read from the spec itself.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backdoor_audit.contract.spec.audit_spec import AuditSpec, TriggerSpec, WebhookTarget
from backdoor_audit.contract.spec.carriers import CarrierSet
from backdoor_audit.contract.spec.presets import PresetValues
from backdoor_audit.contract.spec.search import SearchSpec

Kind = Literal[
    "reference",
    "text",
    "template",
    "choice",
    "integer",
    "names",
    "layers",
    "carriers",
    "strings",
    "lines",
    "pairs",
    "labels",
]
"""How the value is written.

``reference`` is a model reference or a folder, ``names`` are comma-separated choices, ``strings`` and ``lines`` are a
file or text with one string per line, ``pairs`` is a file of suspected pairs, ``labels`` are repeated ``NAME=VALUE``.
"""

Group = Literal["models", "trigger", "search", "prompts", "method", "run", "result"]

_NESTED: Final[dict[str, type[BaseModel]]] = {
    "trigger": TriggerSpec, "search": SearchSpec, "webhook": WebhookTarget, "overrides": PresetValues,
}  # fmt: skip


@dataclass(frozen=True)
class SpecOption:
    """One field of the spec as an option.

    Attributes:
        name: of the option (``--name``, dashes for underscores).
        field: path in the spec's JSON, with dots.
        kind: how the value is written.
        group: heading under which the form shows it.
        more: addition to the field's description about how the value is written.
        label: label of its form field; without one, the form has no such field.
        advanced: whether the form shows it with the advanced fields, instead of under its group.
        command: whether ``backdoor-audit submit`` takes it.
    """

    name: str
    field: str
    kind: Kind
    group: Group
    more: str = ""
    label: str = ""
    advanced: bool = False
    command: bool = True

    @property
    def form_name(self) -> str:
        """Name of its field in the form: that of the spec's field."""
        return self.field.rpartition(".")[2]

    @property
    def default(self) -> Any:
        """The field's default; None if it has none."""
        info = self._info()
        return None if info.is_required() else info.default

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def help(self) -> str:
        """What the field means, from the spec's own description, and how it is written."""
        choices = f"Choices: {', '.join(self.choices)}." if self.kind in ("carriers", "names") else ""
        return " ".join(filter(None, (self._info().description, choices, self.more)))

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted values of the field; none if it takes any text."""
        if self.kind == "carriers":
            return get_args(CarrierSet.model_fields["set"].annotation)
        return _words(self._info().annotation) if self.kind in ("choice", "names") else ()

    def _info(self) -> FieldInfo:
        outer, _, inner = self.field.partition(".")
        return _NESTED[outer].model_fields[inner] if inner else AuditSpec.model_fields[outer]


def _words(annotation: Any) -> tuple[str, ...]:
    """The values of the literal in a type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((words for part in get_args(annotation) if (words := _words(part))), ())


_REFERENCES: Final = "local:PATH, store:NAME, hf:ORG/REPO@COMMIT, mlflow:MODEL/VERSION, or a folder to push."

SPEC_OPTIONS: Final[tuple[SpecOption, ...]] = (
    SpecOption("base", "base_model", "reference", "models", _REFERENCES, label="Base model"),
    SpecOption(
        "tuned", "fine_tuned", "reference", "models", "Written like --base.",
        label="Fine-tuned checkpoint or LoRA adapter",
    ),
    SpecOption("triggered", "trigger.triggered", "text", "trigger", label="Suspected string"),
    SpecOption("clean", "trigger.clean", "text", "trigger", label="Clean string in its place"),
    SpecOption("template", "trigger.template", "template", "trigger", "\\n is a line break.", label="Template"),
    SpecOption(
        "candidates", "candidates", "pairs", "trigger", "A file: .json or .jsonl.", label="More suspected pairs"
    ),
    SpecOption("budget", "search.budget", "choice", "search", label="Budget"),
    SpecOption("sources", "search.sources", "names", "search", "Comma-separated."),
    SpecOption(
        "strings", "search.strings", "lines", "search", "A file with one string per line.",
        label="Strings to try, one per line",
    ),
    SpecOption(
        "logs", "search.logs", "lines", "search", "A file: .txt with one prompt per line, or .jsonl.",
        label="Lines of prompts or training data",
    ),
    SpecOption("carriers", "carriers", "carriers", "prompts", "Or a file: .txt, .json, .jsonl.", label="Carriers"),
    SpecOption(
        "decoys", "decoys", "strings", "prompts", "A file with one string per line.",
        label="Own decoy strings, one per line", advanced=True,
    ),
    SpecOption("render", "render", "choice", "prompts", label="Prompt rendering", advanced=True),
    SpecOption("preset", "preset", "choice", "method", label="Preset"),
    SpecOption(
        "silent_decoys", "overrides.silent_decoys", "integer", "method", label="Silent decoys required", advanced=True,
        command=False,
    ),
    SpecOption(
        "max_decoys", "overrides.max_decoys", "integer", "method", label="Maximum number of decoys", advanced=True,
        command=False,
    ),
    SpecOption(
        "layers", "layers", "layers", "method", "auto, or comma-separated: 13,17.", label="Layers", advanced=True
    ),
    SpecOption(
        "architectures", "architectures", "names", "method", "Comma-separated.", label="Architectures", advanced=True
    ),
    SpecOption("dictionaries", "dictionaries", "choice", "method", label="Train dictionaries", advanced=True),
    SpecOption("recipe", "recipe", "choice", "method"),
    SpecOption("dtype", "dtype", "choice", "method"),
    SpecOption("seed", "seed", "integer", "method"),
    SpecOption("deadline", "deadline_s", "integer", "run"),
    SpecOption("webhook", "webhook.url", "text", "result"),
    SpecOption("library", "library", "text", "result", label="Benign library"),
    SpecOption("fail_on", "fail_on", "choice", "result", label="Fail a pipeline on", command=False),
    SpecOption("label", "labels", "labels", "result", "NAME=VALUE; repeatable.", label="Labels"),
)  # fmt: skip
"""``submit`` declares ``fail_on`` itself, because ``wait`` takes it as well."""
