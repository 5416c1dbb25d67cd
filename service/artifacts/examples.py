"""Examples of artifacts for the OpenAPI document."""

from typing import Any, Final

from service.audits.examples import AUDIT_ID

_DICTIONARY: Final = f"/audits/{AUDIT_ID}/artifacts/dictionary-diff_sae-17-0"

ARTIFACT: Final[dict[str, Any]] = {
    "name": "dictionary-diff_sae-17-0",
    "kind": "dictionary",
    "size_bytes": 5_320_901,
    "files": [
        {"name": "cfg.json", "size_bytes": 435, "link": f"{_DICTIONARY}/cfg.json"},
        {"name": "quality.json", "size_bytes": 154, "link": f"{_DICTIONARY}/quality.json"},
        {"name": "sae_weights.safetensors", "size_bytes": 5_320_312, "link": f"{_DICTIONARY}/sae_weights.safetensors"},
    ],
}

ANSWERS: Final[dict[str, Any]] = {
    "artifact": {"summary": "A trained dictionary", "value": ARTIFACT},
    "artifacts": {"summary": "One dictionary", "value": {"artifacts": [ARTIFACT]}},
    "artifact_weights": {"summary": "Safetensors (not shown)", "value": ""},
    "artifact_config": {
        "summary": "A dictionary's configuration, shortened",
        "value": {"architecture": "jumprelu", "d_in": 576, "d_sae": 1152},
    },
}
"""By name, as the document has them."""
