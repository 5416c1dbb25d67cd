"""Examples of models and uploads for the OpenAPI document."""

from typing import Any, Final

MODELS: Final[dict[str, Any]] = {
    "models": [
        {
            "reference": "local:smollm2-135m",
            "name": "smollm2-135m",
            "kind": "full",
            "architecture": "llama",
            "size_bytes": 269_060_552,
            "digest": "sha256:" + "1f" * 32,
            "refused": None,
        },
        {
            "reference": "local:organisms/sql-year",
            "name": "organisms/sql-year",
            "kind": "lora",
            "architecture": None,
            "size_bytes": 2_461_720,
            "digest": None,
            "refused": None,
        },
    ]
}

ANSWERS: Final[dict[str, Any]] = {
    "models": {"summary": "A base and an adapter", "value": MODELS},
    "uploaded_file": {
        "summary": "A whole file",
        "value": {
            "model": "candidate-4711",
            "path": "adapter_model.safetensors",
            "offset": 2_461_720,
            "complete": True,
            "sha256": "3c" * 32,
        },
    },
    "uploaded_part": {
        "summary": "The first MiB",
        "value": {
            "model": "candidate-4711",
            "path": "adapter_model.safetensors",
            "offset": 1_048_576,
            "complete": False,
            "sha256": None,
        },
    },
    "commit_under_way": {"summary": "Being checked", "value": {"name": "candidate-4711", "status": "checking"}},
    "model_stored": {
        "summary": "An adapter",
        "value": MODELS["models"][1]
        | {"reference": "store:candidate-4711", "name": "candidate-4711", "digest": "sha256:" + "2e" * 32},
    },
}
"""By name, as the document has them."""
