"""Batches: one spec, and what differs from audit to audit. Torch-free."""

from typing import Annotated, Any, Final

from pydantic import Field

from backdoor_audit.contract.base import Frozen

MAX_AUDITS: Final = 200
"""Audits of one batch."""

VARIED: Final = ("base_model", "fine_tuned", "trigger")


class BatchItem(Frozen):
    """What one audit of a batch has instead of, or besides, the common spec."""

    base_model: str | None = Field(default=None, description="Its base model.")
    fine_tuned: str | None = Field(default=None, description="Its fine-tuned model.")
    trigger: dict[str, Any] | None = Field(default=None, description="Its pair, as in a spec.")

    def over(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The common spec with what this item has."""
        return spec | {name: value for name in VARIED if (value := getattr(self, name)) is not None}


class BatchSpec(Frozen):
    """Many audits in one request: every model of a collection, or one model under many pairs."""

    spec: dict[str, Any] = Field(description="The fields of a spec that all audits share.")
    audits: Annotated[tuple[BatchItem, ...], Field(min_length=1, max_length=MAX_AUDITS)] = Field(
        description="One entry per audit."
    )
