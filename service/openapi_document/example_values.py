"""Examples of parameters and headers, by name; the document's builder puts them in place."""

from typing import Any, Final

from service.audits.examples import AUDIT_ID
from service.batches.examples import BATCH_ID
from service.libraries import examples as library_examples
from service.webhooks.examples import WEBHOOK_ID

_DIGEST: Final = "sha256:" + "2e" * 32
_REPR_DIGEST: Final = "sha-256=:" + "A" * 43 + "=:"

PARAMETERS: Final[dict[str, Any]] = {
    "architecture": "diff_sae",
    "base_model": "local:smollm2-135m",
    "content-range": "bytes 0-1048575/2461720",
    "dry_run": True,
    "filed_before": "2026-02-01T00:00:00Z",
    "filed_since": "2026-01-01T00:00:00Z",
    "fine_tuned": "local:organisms/sql-year",
    "format": "junit",
    "id_prefix": "audit_01jd8x3v",
    "idempotency-key": "pipeline-1234",
    "if-none-match": '"7.3.412"',
    "label": ["pipeline=1234"],
    "last-event-id": 7,
    "layer": 17,
    "left": AUDIT_ID,
    "min_bis": 0.5,
    "page_size": 50,
    "page_token": "eyJhZnRlciI6MX0",
    "repr-digest": _REPR_DIGEST,
    "right": AUDIT_ID,
    "spec_digest": _DIGEST,
    "status": "succeeded",
    "tuned_digest": _DIGEST,
    "verdict": "flagged",
    "X-MLflow-Delivery-Id": "0d9c2a52-6a3b-4c55-9a0e-3f5d1f6f2b11",
    "X-MLflow-Signature": "v1,iGnS1f6jxJ0nN0C1mUO3gNw6hH2Y2hQ0mXl1Vb0m0bE=",
    "X-MLflow-Timestamp": "1768210200",
}
"""Examples of query and header parameters; path parameters have theirs where they are declared."""

HEADERS: Final[dict[str, Any]] = {
    "ETag": '"7.3.412"',
    "Repr-Digest": _REPR_DIGEST,
    "Retry-After": 5,
    "Upload-Complete": "?0",
    "Upload-Offset": 1_048_576,
}
LOCATIONS: Final[dict[str, str]] = {
    "/audits": f"/audits/{AUDIT_ID}",
    "/audits/batch": f"/batches/{BATCH_ID}",
    "/audits/{audit_id}/retry": f"/audits/{AUDIT_ID}",
    "/mlflow/events": f"/audits/{AUDIT_ID}",
    "/libraries": f"/libraries/{library_examples.LIBRARY_ID}",
    "/webhooks": f"/webhooks/{WEBHOOK_ID}",
}
"""Examples of the header ``Location``, by the path that returns it."""

CHALLENGES: Final[dict[str, str]] = {
    "401": 'Bearer realm="backdoor-audit"',
    "403": 'Bearer realm="backdoor-audit", error="insufficient_scope", scope="audits:write"',
}
"""Examples of the header ``WWW-Authenticate``, by status."""
SIGNED: Final[dict[str, str]] = {"/mlflow/events": 'Signature realm="backdoor-audit"'}
"""The same for calls that need a signature instead of a key."""


def write(paths: dict[str, Any]) -> None:
    """Add its example to every parameter and header of the document's paths."""
    for path, operations in paths.items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] != "path":
                    parameter["example"] = PARAMETERS[parameter["name"]]
            for status, answer in operation["responses"].items():
                for name, header in answer.get("headers", {}).items():
                    if "$ref" not in header:
                        header["example"] = _header(path, status, name)


def _header(path: str, status: str, name: str) -> Any:
    if name == "Location":
        return LOCATIONS[path]
    if name == "WWW-Authenticate":
        return SIGNED.get(path) or CHALLENGES[status]
    return HEADERS[name]
