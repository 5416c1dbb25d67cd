"""Examples of benign libraries for the OpenAPI document."""

import math
from typing import Any, Final

from service.audits.examples import AUDIT_ID
from service.openapi_document.report_examples import REPORT

LIBRARY_ID: Final = "library_01jd8x3v9q6w2r5t7y9b1c3d5f"
ENTRY_ID: Final = "entry_01jd8x3v9q6w2r5t7y9b1c3d5f"

_NOISE: Final = 0.0004
_EFFECT: Final = 0.0031
_LIBRARY: Final[dict[str, Any]] = {
    "id": LIBRARY_ID,
    "name": "smollm2-year",
    "entries": 24,
    "created_at": "2026-01-12T09:30:00Z",
}
_ENTRY: Final[dict[str, Any]] = {
    "id": ENTRY_ID,
    "audit_id": AUDIT_ID,
    "fine_tuned": "local:organisms/sql-year-benign",
    "tuned_digest": "sha256:" + "4a" * 32,
    "recipe": "clean sft",
    "because": None,
    "score": math.log(_EFFECT + _NOISE),
    "effect_nats": _EFFECT,
    "noise_nats": _NOISE,
    "key": REPORT["gates"]["calibrated"]["key"],
    "created_at": "2026-01-12T09:40:00Z",
}

ANSWERS: Final[dict[str, Any]] = {
    "library_spec": {
        "summary": "For one base and one kind of trigger",
        "value": {"name": "smollm2-year"},
    },
    "library": {"summary": "A library of 24 models", "value": _LIBRARY},
    "library_listing": {"summary": "The only page", "value": {"libraries": [_LIBRARY]}},
    "entry_spec": {
        "summary": "A model trained on safe answers only",
        "value": {"audit_id": AUDIT_ID, "recipe": "clean sft"},
    },
    "entry": {"summary": "An entry and its score", "value": _ENTRY},
    "entry_listing": {
        "summary": "A page that is not the last",
        "value": {"entries": [_ENTRY], "next_page_token": "bGlicmFyeV8wMWpk"},
    },
}
"""By name, as the document has them."""
