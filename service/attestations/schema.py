"""The JSON schema of an attestation's predicate, committed as ``openapi/attestation.schema.json``."""

from typing import Any

from backdoor_audit.contract.attestation import PREDICATE_TYPE, AuditPredicate


def attestation_schema() -> dict[str, Any]:
    """The schema of the predicate. Within its major version fields are added, so it allows unknown ones."""
    schema = AuditPredicate.model_json_schema(mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        part.pop("additionalProperties", None)
        part["required"] = list(part["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": PREDICATE_TYPE} | schema
