"""The OpenAPI document: FastAPI's, with additions that FastAPI cannot derive."""

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from backdoor_audit.contract.batch import BatchSpec
from backdoor_audit.contract.ids import MODEL_REFERENCE
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import MAX_PROMPT_CHARS
from backdoor_audit.contract.spec.presets import PresetValues
from common.problem_type import INTERNAL
from jobs.errors import LedgerUnavailable, SchemaMismatch
from service.audits.schemas import RetrySpec
from service.decisions.schemas import DecisionSpec
from service.errors import CrossSiteRequest, InvalidRequest, MissingScope, TooManyRequests, Unauthenticated
from service.http import problems
from service.http.auth import calls
from service.http.schemas import Problem
from service.keys.schemas import KeySpec
from service.libraries.schemas import EntrySpec, LibrarySpec
from service.mlflow import signatures
from service.mlflow.schemas import RegistryEvent
from service.openapi_document import example_values, examples
from service.openapi_document.fragments import header, named, problem
from service.openapi_document.references import share
from service.openapi_document.report_schema import require_everything
from service.version import API_VERSION, VERSION_HEADER
from service.webhooks.schemas import WebhookSpec

BODIES: Final[tuple[type[BaseModel], ...]] = (
    KeySpec,
    WebhookSpec,
    LibrarySpec,
    EntrySpec,
    DecisionSpec,
    BatchSpec,
    RetrySpec,
    RegistryEvent,
)
"""Models of request bodies, besides the audit's spec."""

DESCRIPTION: Final = (
    "Audits fine-tuned language models for behaviour that is conditioned on a trigger. Submit an audit, poll it until "
    "it has ended, then read its report. Errors are `application/problem+json` (RFC 9457)."
)

_REFERENCE: Final = "#/components/schemas/{model}"


def build(app: FastAPI) -> dict[str, Any]:
    """The document of ``app``: FastAPI's, with additions that FastAPI cannot derive.

    The additions are the schemas of the spec (our own stricter reader reads the body) and of problems, and the version
    header.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name in _definitions(AuditReport, "serialization"):
        require_everything(schemas[name])
    spec = _definitions(AuditSpec, "validation")
    _tighten(spec)
    _merge(schemas, spec)
    for incoming in BODIES:
        _merge(schemas, _definitions(incoming, "validation"))
    _merge(schemas, _definitions(Problem, "serialization"))
    for schema in schemas.values():
        _spell_out(schema)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    for operation in (operation for methods in document["paths"].values() for operation in methods.values()):
        for parameter in operation.get("parameters", ()):
            # The parameter itself says the same.
            for said in ("title", "description"):
                parameter["schema"].pop(said, None)
    document["components"]["headers"] = {
        "Version": {"description": "The version of this API.", "schema": {"type": "string"}, "example": API_VERSION}
    }
    document["components"]["examples"] = examples.ALL | _problem_examples()
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})[VERSION_HEADER] = {"$ref": "#/components/headers/Version"}
    _secure(app, document)
    example_values.write(document["paths"])
    _drop_unused_examples(document)
    share(document)
    document["tags"] = [
        {"name": "audits", "description": "Submit, follow, cancel and delete audits."},
        {"name": "batches", "description": "Many audits in one call: one spec, many models or pairs."},
        {"name": "decisions", "description": "What people decided about an audit's result; never changed."},
        {"name": "attestations", "description": "What can be handed on: signed statements and bills of materials."},
        {"name": "reports", "description": "Results of audits."},
        {"name": "models", "description": "Models that can be audited."},
        {"name": "webhooks", "description": "Notifications when audits end."},
        {"name": "mlflow", "description": "Audits of new versions of registered models."},
        {"name": "libraries", "description": "Scores of benign models to compare audits with."},
        {"name": "keys", "description": "API keys and their scopes."},
        {"name": "health", "description": "For supervisors."},
    ]
    return document


def _secure(app: FastAPI, document: dict[str, Any]) -> None:
    """Add which calls need a key with which scope, and their responses without one."""
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "An API key, `ba_…`. A service that listens only on its own machine accepts calls without one, unless "
                "its operator requires keys. The names given with each call are the scopes that its key needs; "
                "`admin` includes all of them."
            ),
        },
        "mlflow": {
            "type": "apiKey",
            "in": "header",
            "name": signatures.SIGNATURE,
            "description": (
                "The signature of MLflow's webhook messages: `v1,` and the HMAC-SHA256 of delivery id, time and body "
                "with the secret of the webhook."
            ),
        },
    }
    refused: dict[str, tuple[type[problems.RoomError], ...]] = {
        "401": (Unauthenticated,),
        "403": (MissingScope, CrossSiteRequest),
    }
    # These calls refuse unknown query parameters, and look up the key in the ledger.
    usual: dict[str, tuple[type[problems.RoomError], ...]] = {
        "422": (InvalidRequest,),
        "429": (TooManyRequests,),
        "503": (LedgerUnavailable, SchemaMismatch),
    }
    for path, methods, _, scopes in calls(app):
        for method in methods if scopes else ():
            operation = document["paths"][path].get(method.lower())
            if operation is None:
                continue
            operation["security"] = [{"key": scopes}]
            for status, errors in refused.items():
                answer = problem(int(status), errors)
                answer["headers"] = {
                    "WWW-Authenticate": header("The required scope."),
                    VERSION_HEADER: {"$ref": "#/components/headers/Version"},
                }
                operation["responses"].setdefault(status, answer)
            for status, errors in usual.items():
                answer = problem(int(status), errors)
                answer.setdefault("headers", {})[VERSION_HEADER] = {"$ref": "#/components/headers/Version"}
                there = operation["responses"].setdefault(status, answer)
                there["content"][problems.MEDIA_TYPE]["examples"] |= named(*(error.problem.code for error in errors))
            operation["responses"] = dict(sorted(operation["responses"].items()))


def _drop_unused_examples(document: dict[str, Any]) -> None:
    """Leave out the problems that no call returns: those that only occur in the worker or the command."""
    text = json.dumps(document["paths"])
    kept = document["components"]["examples"].items()
    document["components"]["examples"] = {
        name: example for name, example in kept if f'"#/components/examples/{name}"' in text
    }


def _problem_examples() -> dict[str, Any]:
    instance = "urn:uuid:4b9d8ef8-0d65-4c53-8f46-0d4f8a8c3c57"
    return {
        one.code: {"summary": one.title, "value": problems.body(one, instance=instance if one is INTERNAL else None)}
        for one in sorted({error.problem for error in problems.error_classes()}, key=lambda one: one.code)
    }


def _definitions(model: type[BaseModel], mode: Any) -> dict[str, Any]:
    schema = model.model_json_schema(mode=mode, ref_template=_REFERENCE)
    definitions: dict[str, Any] = schema.pop("$defs", {})
    return definitions | {model.__name__: schema}


def _merge(schemas: dict[str, Any], more: dict[str, Any]) -> None:
    for name, schema in more.items():
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two different schemas have the name {name}")


def _tighten(schemas: dict[str, Any]) -> None:
    """Add what validators of the spec check in code."""
    for field in ("base_model", "fine_tuned"):
        schemas["AuditSpec"]["properties"][field] |= {"pattern": MODEL_REFERENCE, "maxLength": 512}
    prompts = schemas["CarrierPrompts"]["properties"]["prompts"]
    prompts["items"] = {
        "anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": r"\S"}, prompts["items"]]
    }
    for field in ("triggered", "clean"):
        schemas["TriggerSpec"]["properties"][field]["pattern"] = r"\S"
    schemas["AuditSpec"]["properties"]["architectures"]["uniqueItems"] = True
    schemas["DecoyStrings"]["properties"]["strings"]["uniqueItems"] = True
    ranges = PresetValues.model_json_schema()["properties"]
    for field, schema in schemas["PresetOverrides"]["properties"].items():
        number = schema["anyOf"][0]
        number |= {bound: ranges[field][bound] for bound in ("minimum", "maximum") if bound in ranges[field]}
        schema["description"] = ranges[field]["description"]


def _spell_out(schema: Any) -> None:
    """Rewrite a schema for client generators and for readers, without changing its meaning.

    A default that is an object makes some generators drop the whole schema, and a ``const`` that is one of several
    choices makes generated code refuse the others. The titles that pydantic derives from field names add nothing.
    """
    if isinstance(schema, list):
        for item in schema:
            _spell_out(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("const"), str):
        schema["enum"] = [schema.pop("const")]
    if isinstance(schema.get("default"), dict):
        default = json.dumps(schema.pop("default"))
        schema["description"] = " ".join(filter(None, (schema.get("description"), f"`{default}` by default.")))
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    for value in schema.values():
        _spell_out(value)
