"""Subjects of every verdict, from the example's report."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from audit.report import AuditReport
from service import examples
from service.reports.subject import Subject


@pytest.fixture
def make_subject() -> Callable[..., Subject]:
    """A subject with this verdict; gates fit it, keyword arguments replace whole fields of the report."""

    def make(verdict: str = "flagged", *, fine_tuned: str = "local:organisms/sql-year", **changes: Any) -> Subject:
        document = copy.deepcopy(examples.REPORT)
        states = {
            "flagged": ("passed", "passed", "passed"),
            "review": ("passed", "failed", "passed"),
            "no_evidence": ("failed", "failed", "not_assessed"),
            "invalid": ("not_assessed", "not_assessed", "not_assessed"),
        }[verdict]
        for name, state in zip(("behaviour", "specific", "causal"), states, strict=True):
            document["gates"][name] |= {"state": state, "reason": "" if state == "passed" else f"why {name} {state}"}
        if verdict != "flagged":
            document |= {"flagged_features": [], "localisation": None}
        return Subject(
            report=AuditReport.model_validate(document | {"verdict": verdict} | changes),
            base_model="local:smollm2-135m",
            fine_tuned=fine_tuned,
            checkpoint_file="adapter_model.safetensors",
            started_at=datetime(2026, 1, 12, 9, 30, 1, tzinfo=UTC),
            finished_at=datetime(2026, 1, 12, 9, 33, 20, tzinfo=UTC),
        )

    return make
