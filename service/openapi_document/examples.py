"""All examples of the OpenAPI document. Each noun keeps its own; tests validate each of them against its schema."""

from typing import Any, Final

from service.artifacts import examples as artifacts
from service.attestations import examples as attestations
from service.audits import examples as audits
from service.batches import examples as batches
from service.decisions import examples as decisions
from service.health import examples as health
from service.keys import examples as keys
from service.libraries import examples as libraries
from service.mlflow import examples as mlflow
from service.models import examples as models
from service.openapi_document import report_examples as reports
from service.webhooks import examples as webhooks

_NOUNS: Final = (
    audits,
    batches,
    reports,
    decisions,
    attestations,
    artifacts,
    models,
    keys,
    webhooks,
    mlflow,
    libraries,
    health,
)

ALL: Final[dict[str, Any]] = audits.SPECS | {name: one for noun in _NOUNS for name, one in noun.ANSWERS.items()}
"""By name, as the document's components."""
