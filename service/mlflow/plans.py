"""Plans: which audit to submit for a new version of a registered model, read from the operator's file."""

import codecs
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from service.errors import ErrorItem, InvalidRequest, ServiceError, StartupError
from service.http.json_body import decode
from service.http.validation import body_items
from service.mlflow.tags import PREFIX

_FROM_TAGS: Final = ("base_model", "triggered", "clean", "template")
_STAND_IN: Final[dict[str, Any]] = {
    "base_model": "local:base",
    "fine_tuned": "mlflow:model/1",
    "trigger": {"triggered": "a", "clean": "b"},
}
"""Placeholders, when the file is read, for what tags may supply later."""
_MAX_BYTES: Final = 8 * 2**20


@dataclass(frozen=True)
class AuditPlans:
    """The plans of a file, in order: names of registered models, with ``*`` for any text, and the audits to run."""

    plans: tuple[tuple[str, Mapping[str, Any]], ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file, and refuse plans that could never become a valid spec.

        Raises:
            StartupError: says what is wrong, and where.
        """
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise StartupError("the file of BACKDOOR_AUDIT_MLFLOW_AUDITS is larger than 8 MiB")
            document = decode(path.read_bytes().removeprefix(codecs.BOM_UTF8))
        except OSError as error:
            raise StartupError(f"the file of BACKDOOR_AUDIT_MLFLOW_AUDITS cannot be read: {error.strerror}") from error
        except ServiceError as error:
            raise StartupError(f"the file of BACKDOOR_AUDIT_MLFLOW_AUDITS is not usable: {error.detail}") from None
        if not isinstance(document, dict) or not all(isinstance(plan, dict) for plan in document.values()):
            raise StartupError("the file of BACKDOOR_AUDIT_MLFLOW_AUDITS must hold an object of objects")
        for pattern, plan in document.items():
            _check(pattern, plan)
        return cls(tuple(document.items()))

    def find(self, name: str) -> Mapping[str, Any] | None:
        """The first plan that matches a registered model's name."""
        return next((plan for pattern, plan in self.plans if fnmatch.fnmatchcase(name, pattern)), None)


def spec_of(plan: Mapping[str, Any], reference: str, tags: Mapping[str, str], labels: Mapping[str, str]) -> AuditSpec:
    """The spec of an audit of ``reference``. Tags fill in what the plan leaves out, and never override it.

    Raises:
        InvalidRequest: something is missing in both, or the result is not a valid spec; pointers refer to the event.
    """
    document = dict(plan) | {"fine_tuned": reference, "labels": dict(labels) | dict(plan.get("labels", {}))}
    said = {name: tags[PREFIX + name] for name in _FROM_TAGS if PREFIX + name in tags}
    if "base_model" in said:
        document.setdefault("base_model", said["base_model"])
    if not {"trigger", "candidates"} & document.keys():
        pair = {name: said[name] for name in ("triggered", "clean", "template") if name in said}
        if pair:
            document["trigger"] = pair
    try:
        return AuditSpec.model_validate(document, strict=True)
    except ValidationError as error:
        missing = "; set the tags " + ", ".join(PREFIX + name for name in _FROM_TAGS[:3]) + ", or the plan"
        raise InvalidRequest(
            "The plan for this model and the tags of the version do not give a valid spec.",
            errors=[
                ErrorItem("body", "#/data/tags", f"{item.pointer.removeprefix('#/') or 'spec'}: {item.detail}{missing}")
                for item in body_items(error, document)[:20]
            ],
        ) from None


def _check(pattern: str, plan: Mapping[str, Any]) -> None:
    where = f"the plan '{pattern}' of BACKDOOR_AUDIT_MLFLOW_AUDITS"
    if "fine_tuned" in plan:
        raise StartupError(f"{where} names fine_tuned, which is always the new version")
    document = _STAND_IN | dict(plan)
    if "candidates" in plan:
        document.pop("trigger") if "trigger" not in plan else None
    try:
        AuditSpec.model_validate(document, strict=True)
    except ValidationError as error:
        found = "; ".join(f"{item.pointer}: {item.detail}" for item in body_items(error, document)[:5])
        raise StartupError(f"{where} is not a valid spec: {found}") from None
