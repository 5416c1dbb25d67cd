"""What a second attempt reuses from the first: the plan and the confirmation, read back from disk.

Activations and decoys are read back by ``audit.measure.extraction``, directions by ``audit.measure.fitted_directions``,
dictionaries by ``audit.explain.training``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from audit.measure.confirm import Behaviour, Confirmation, confirm
from audit.measure.extraction import Extraction
from audit.ports import FolderStore, ProgressCallback
from backdoor_audit.contract.report.audit_report import METHOD_VERSION

_CONFIRMATION: Final = TypeAdapter(Confirmation)


def obtain_plan(workspace: FolderStore, plan: Mapping[str, Any]) -> Path:
    """The folder of the plan; everything that an earlier attempt measured in another way is deleted.

    A worker on another device, or one whose processor uses another precision under ``auto``, rounds differently: a
    fine-tuned model run there and a base run here would differ even where fine-tuning changed nothing. Another version
    of the method measures other things under the same names.

    Args:
        plan: the audit's ``bytes``, ``device`` and ``dtype``; an older version noted ``bytes`` alone.
    """
    plan = {**plan, "method": METHOD_VERSION}
    existing = workspace.find("plan")
    if existing is not None:
        before = json.loads((existing / "plan.json").read_text(encoding="utf-8"))
        alike = all(before.get(name, plan[name]) == plan[name] for name in ("device", "dtype"))
        if alike and before.get("method") == METHOD_VERSION:
            return existing
        for name in tuple(workspace.names()):
            workspace.remove(name)

    def write(folder: Path) -> None:
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    return workspace.obtain("plan", write)


def obtain_confirmation(
    extraction: Extraction,
    assess_causal: Callable[[Behaviour], bool],
    progress: ProgressCallback,
) -> Confirmation:
    """The numbers of the confirm stage, measured unless an earlier attempt has done so (see ``confirm``)."""
    measured = []

    def write(folder: Path) -> None:
        confirmation = confirm(extraction, assess_causal=assess_causal, progress=progress)
        (folder / "confirmation.json").write_bytes(_CONFIRMATION.dump_json(confirmation))
        measured.append(confirmation)

    folder = extraction.store.obtain("confirmation", write)
    return measured[0] if measured else _CONFIRMATION.validate_json((folder / "confirmation.json").read_bytes())
