"""The JSON schema of a report, usable without the rest of the API's document."""

from typing import Any

from backdoor_audit.contract.report.audit_report import SCHEMA_VERSION, AuditReport


def require_everything(schema: dict[str, Any]) -> None:
    """Mark every field of a response object as required, because all of them are always written."""
    properties = schema.get("properties")
    if properties is None:
        return
    schema["required"] = list(properties)
    for field in properties.values():
        field.pop("default", None)


def report_schema() -> dict[str, Any]:
    """The schema that `GET /schemas/report` returns, and that is committed as `openapi/report.schema.json`.

    Its ``$id`` holds the major version of the layout: within it, fields are added but never removed or changed in
    meaning, so the schema allows unknown fields.
    """
    schema = AuditReport.model_json_schema(mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        require_everything(part)
        if part.get("additionalProperties") is False:
            del part["additionalProperties"]
    major = SCHEMA_VERSION.split(".")[0]
    schema["properties"]["schema_version"] |= {"pattern": rf"^{major}\.[0-9]+$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:backdoor-audit:report:{major}",
        "$comment": f"Report layout {SCHEMA_VERSION}.",
    } | schema
