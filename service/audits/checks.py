"""Checks made before an audit is accepted, so that a typo is reported at once and not after waiting in the queue.

Only what this machine can see is checked. The API of a cluster may have no models root, and a model on the hub or in
MLflow may not have been fetched yet: such audits are accepted, and a worker checks them.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from audit.errors import InvalidAudit
from audit.plan import plan_audit
from audit.search.judged import planned_spec
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from models_store.checkpoint import CheckpointHeaders
from models_store.errors import ModelNotFound, ModelRejected, StoreError, StoreUnavailable
from models_store.references import parse_reference
from models_store.store import ModelsStore
from service.errors import ErrorItem, InvalidRequest, UnknownModel

_FIELDS: Final = ("base_model", "fine_tuned")
_SUGGESTED: Final = 3


def check_spec(models: ModelsStore, spec: AuditSpec) -> None:
    """Refuse a spec that no worker could carry out, as far as names, headers, configurations and carriers tell.

    Raises:
        UnknownModel: the base, the fine-tuned model or both are not there; names what is there under a similar name.
        InvalidRequest: a layer that the base does not have, too few carriers; all at once.
        ModelRejected, ModelsIncompatible: a checkpoint is rejected, or does not fit the other one.
    """
    missing: list[ErrorItem] = []
    base, tuned = (_headers(models, spec, field, missing) for field in _FIELDS)
    if missing:
        raise UnknownModel(errors=missing)
    wrong = [*_wrong_layers(spec, base), *_wrong_carriers(spec)]
    if wrong:
        raise InvalidRequest(errors=wrong)
    if base is not None and tuned is not None:
        models.check_fit(base, tuned)


def _wrong_layers(spec: AuditSpec, base: CheckpointHeaders | None) -> list[ErrorItem]:
    if isinstance(spec.layers, str) or base is None or not base.blocks:
        return []
    said = f"is no layer of the base, which has {base.blocks} blocks, numbered 0 to {base.blocks - 1}"
    missing = [index for index, layer in enumerate(spec.layers) if layer >= base.blocks]
    return [ErrorItem("body", f"#/layers/{index}", said) for index in missing]


def _wrong_carriers(spec: AuditSpec) -> list[ErrorItem]:
    try:
        plan_audit(planned_spec(spec))
    except InvalidAudit as error:
        return [ErrorItem("body", "#/carriers", f"{error.message}; {error.hint}" if error.hint else error.message)]
    return []


def _headers(models: ModelsStore, spec: AuditSpec, field: str, missing: list[ErrorItem]) -> CheckpointHeaders | None:
    """The headers of one of the two models; None if only a worker can tell, or where it was added to ``missing``."""
    reference = getattr(spec, field)
    scheme = parse_reference(reference).scheme
    try:
        return models.headers(reference)
    except StoreUnavailable:
        return None
    except (ModelNotFound, ModelRejected) as error:
        if scheme not in ("local", "store"):
            return None
        if isinstance(error, ModelRejected):
            raise
        known = models.references()
        if scheme == "local" and not any(one.startswith("local:") for one in known):
            return None  # there is no models root on this machine, or it is empty
        missing.append(ErrorItem("body", f"#/{field}", _not_there(reference, known)))
        return None


def _not_there(reference: str, known: Sequence[str]) -> str:
    """The message about a missing model, with similar names that exist."""
    scheme, _, name = reference.partition(":")
    # If a name exists in several places, the requested place is preferred.
    by_name = {one.partition(":")[2]: one for one in sorted(known, key=lambda one: one.startswith(f"{scheme}:"))}
    suggested = [by_name[close] for close in get_close_matches(name, by_name, _SUGGESTED)]
    where = "the models root" if reference.startswith("local:") else "the store"
    if not suggested:
        return f"is not in {where}; to list the existing ones: backdoor-audit models list"
    return f"is not in {where}; did you mean {' or '.join(suggested)}?"


def as_request_error(error: StoreError) -> InvalidRequest:
    """``error`` for a form or a plan, which show one list of faults."""
    said = f"{error.message}; {error.hint}" if error.hint else error.message
    return InvalidRequest(errors=[ErrorItem("service", "#", said)])
