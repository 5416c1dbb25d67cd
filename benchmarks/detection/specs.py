"""The audit that a unit of the split represents."""

from collections.abc import Mapping
from typing import Any, Final

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.detection.organisms.carriers import spec_field

TEMPLATE: Final = "{trigger}\n{prompt}"


def spec_of(unit: Mapping[str, Any], how: Mapping[str, Any], carriers: str, *, base: str, tuned: str) -> AuditSpec:
    """The spec of one audit; ``base`` and ``tuned`` are names; the folders are passed to the audit itself."""
    return AuditSpec.model_validate(
        {
            "base_model": f"local:{base}",
            "fine_tuned": f"local:organisms/{tuned}",
            "trigger": {
                "triggered": unit["triggered"],
                "clean": unit["clean"],
                "template": unit.get("template", TEMPLATE),
            },
            "carriers": spec_field(carriers),
            "preset": how["preset"],
            "seed": how["seed"],
            "architectures": how["architectures"],
        }
    )
