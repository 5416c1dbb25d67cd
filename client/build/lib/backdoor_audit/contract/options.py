"""Which fields of a spec a person can set one by one, under which name, and how they are written down.

The one list behind the options of ``backdoor-audit submit`` and the fields of the page that files an audit. What a
field means and which words it takes is read from the spec itself.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backdoor_audit.contract.spec import AuditSpec, CarrierSet, TriggerSpec, WebhookTarget

Kind = Literal[
    "reference", "text", "template", "choice", "integer", "names", "layers", "carriers", "strings", "pairs", "labels"
]
"""How a person writes the value.

``reference`` is a model reference or a folder, ``names`` are comma-separated words of a choice, ``strings`` is a file
or text with one string per line, ``pairs`` is a file of suspected pairs, ``labels`` are repeated ``NAME=VALUE``.
"""

Group = Literal["models", "trigger", "prompts", "method", "run", "result"]

_NESTED: Final[dict[str, type[BaseModel]]] = {"trigger": TriggerSpec, "webhook": WebhookTarget}


@dataclass(frozen=True)
class SpecOption:
    """One field of the spec as an option.

    Attributes:
        name: of the option (``--name``, dashes for underscores) and of the form's field.
        field: path in the spec's JSON, with dots.
        kind: how the value is written.
        group: heading under which a form shows it.
        more: what to add to the field's description, about how the value is written.
        form: whether the page that files an audit shows it.
    """

    name: str
    field: str
    kind: Kind
    group: Group
    more: str = ""
    form: bool = False

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
        """The words that the field takes; none where any text may do."""
        if self.kind == "carriers":
            return get_args(CarrierSet.model_fields["set"].annotation)
        return _words(self._info().annotation) if self.kind in ("choice", "names") else ()

    def _info(self) -> FieldInfo:
        outer, _, inner = self.field.partition(".")
        return _NESTED[outer].model_fields[inner] if inner else AuditSpec.model_fields[outer]


def _words(annotation: Any) -> tuple[str, ...]:
    """The words of the literal in a type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((words for part in get_args(annotation) if (words := _words(part))), ())


_REFERENCES: Final = "local:PATH, store:NAME, hf:ORG/REPO@COMMIT, mlflow:MODEL/VERSION, or a folder to push."

SPEC_OPTIONS: Final[tuple[SpecOption, ...]] = (
    SpecOption("base", "base_model", "reference", "models", _REFERENCES, form=True),
    SpecOption("tuned", "fine_tuned", "reference", "models", "Written like --base.", form=True),
    SpecOption("triggered", "trigger.triggered", "text", "trigger", form=True),
    SpecOption("clean", "trigger.clean", "text", "trigger", form=True),
    SpecOption("template", "trigger.template", "template", "trigger", "\\n is a line break.", form=True),
    SpecOption("candidates", "candidates", "pairs", "trigger", "A file: .json or .jsonl.", form=True),
    SpecOption("carriers", "carriers", "carriers", "prompts", "Or a file: .txt, .json, .jsonl.", form=True),
    SpecOption("decoys", "decoys", "strings", "prompts", "A file with one string per line.", form=True),
    SpecOption("render", "render", "choice", "prompts", form=True),
    SpecOption("preset", "preset", "choice", "method", form=True),
    SpecOption("layers", "layers", "layers", "method", "auto, or comma-separated: 13,17.", form=True),
    SpecOption("architectures", "architectures", "names", "method", "Comma-separated.", form=True),
    SpecOption("recipe", "recipe", "choice", "method"),
    SpecOption("dtype", "dtype", "choice", "method"),
    SpecOption("seed", "seed", "integer", "method"),
    SpecOption("deadline", "deadline_s", "integer", "run"),
    SpecOption("webhook", "webhook.url", "text", "result"),
    SpecOption("library", "library", "text", "result", form=True),
    SpecOption("label", "labels", "labels", "result", "NAME=VALUE; repeatable."),
)
"""Without ``fail_on``, which ``backdoor-audit wait`` takes as well."""
