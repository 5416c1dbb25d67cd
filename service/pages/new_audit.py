"""The form for a new audit: filled, checked and submitted."""

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from fastapi import APIRouter, Request, Response

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import IdempotencyConflict, QueueFull
from jobs.records import AuditRecord
from models_store.errors import ModelRejected, ModelsIncompatible, StoreError
from service.audits import service as audits
from service.audits.checks import as_request_error, check_spec
from service.audits.schemas import Estimate
from service.dependencies import Dependencies, DependenciesDep
from service.errors import InvalidRequest
from service.http import problems
from service.http.auth import Caller
from service.pages import forms, libraries
from service.pages.rendering import page
from service.pages.respond import see, show, show_form

router = APIRouter(include_in_schema=False)

_NOT_SUBMITTED: Final = "The audit was not submitted."
_REFUSED: Final = "An audit like this would be refused."
_UNKNOWN: Final = "This cannot be checked here, only by the worker that carries it out. It can be submitted."


@router.get("/ui/new")
async def new_page(request: Request, dependencies: DependenciesDep) -> Response:
    """The form for a new audit; ``?like=ID`` fills it from an earlier one."""
    like = request.query_params.get("like", "")

    def view(caller: Caller) -> Response:
        filled = forms.Filled()
        if like:
            filled = forms.filled_like(dependencies.ledger.get(like, owner=caller.owner).spec)
        return _form(request, dependencies, caller, filled, 200)

    return await show(request, "audits:write", view)


@router.post("/ui/new")
async def file_audit(request: Request, dependencies: DependenciesDep) -> Response:
    """Submit the form's audit, or show the form again: with its faults, with more rows, or with what it would take."""

    def view(caller: Caller, values: dict[str, str]) -> Response:
        if values.get("more"):
            return _form(request, dependencies, caller, forms.with_more_rows(values), 200)
        spec = forms.spec_from(values)
        if isinstance(spec, forms.Filled):
            return _form(request, dependencies, caller, spec, 422)
        try:
            if values.get("check"):
                return _checked(request, dependencies, caller, values, spec)
            filed = _file(dependencies, caller, spec, values.get("once", ""))
        except InvalidRequest as error:
            return _form(request, dependencies, caller, forms.with_faults(values, error.errors), 422)
        except (ModelRejected, ModelsIncompatible) as error:
            return _form(request, dependencies, caller, forms.with_faults(values, as_request_error(error).errors), 422)
        except QueueFull:
            full = QueueFull.problem
            again = forms.Filled(forms.as_typed(values), {"": [full.detail]})
            headers = {"Retry-After": str(problems.RETRY_AFTER_S[full.code])}
            return _form(request, dependencies, caller, again, problems.STATUSES[full.code], headers)
        return see(f"/ui/audits/{filed.id}")

    return await show_form(request, "audits:write", view)


def _checked(
    request: Request, dependencies: Dependencies, caller: Caller, values: dict[str, str], spec: AuditSpec
) -> Response:
    """What the audit would take; raises what submitting it would raise."""
    check_spec(dependencies.models, spec)
    try:
        found = audits.estimate_audit(dependencies, caller.owner, spec)
    except StoreError as error:
        again = forms.with_faults(values, as_request_error(error).errors)
        return _form(request, dependencies, caller, again, 422, refusal=_UNKNOWN)
    return _form(request, dependencies, caller, forms.Filled(forms.as_typed(values)), 200, estimate=found)


def _file(dependencies: Dependencies, caller: Caller, spec: AuditSpec, once: str) -> AuditRecord:
    """Submit an audit once, even if the form is sent twice. A form that was edited in between is another audit."""
    if re.fullmatch("[0-9a-f]{32}", once):
        with suppress(IdempotencyConflict):
            return audits.file_audit(dependencies, caller.owner, spec, idempotency_key=f"form-{once}").audit
    return audits.file_audit(dependencies, caller.owner, spec).audit


def _form(
    request: Request,
    dependencies: Dependencies,
    caller: Caller,
    filled: forms.Filled,
    status: int,
    headers: Mapping[str, str] | None = None,
    estimate: Estimate | None = None,
    refusal: str = "",
) -> Response:
    """The form; ``refusal`` says of a form with faults what they mean."""
    refusal = refusal or (_REFUSED if filled.values.get("check") else _NOT_SUBMITTED)
    return page(
        request, "new.html", status=status, headers=headers, visitor=caller, filled=filled, values=filled.values,
        faults=filled.faults, options=forms.OPTIONS, labels=forms.LABELS, once=secrets.token_hex(16),
        models=dependencies.models.list(), libraries=libraries.newest(dependencies, caller),
        refusal=refusal, estimate=estimate, uploads=caller.may("models:write"),
    )  # fmt: skip
