"""What a second attempt reuses from the first: the plan, the directions and the confirmation, read back from disk.

Activations and decoys are read back by ``audit.measure.extraction``, dictionaries by ``audit.explain.training``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from audit.measure.confirm import Behaviour, Confirmation, confirm
from audit.measure.contrast import Directions, fit_directions
from audit.measure.extraction import Extraction
from audit.measure.finite import check_number
from audit.ports import FolderStore, ProgressCallback

_CONFIRMATION: Final = TypeAdapter(Confirmation)


def obtain_plan(workspace: FolderStore, plan: Mapping[str, Any]) -> Path:
    """The folder of the plan; everything that an earlier attempt measured on another kind of device is deleted.

    A worker on another device, or one whose processor uses another precision under ``auto``, rounds differently: a
    fine-tuned model run there and a base run here would differ even where fine-tuning changed nothing.

    Args:
        plan: the audit's ``bytes``, ``device`` and ``dtype``; an older version noted ``bytes`` alone.
    """
    existing = workspace.find("plan")
    if existing is not None:
        before = json.loads((existing / "plan.json").read_text(encoding="utf-8"))
        if all(before.get(name, plan[name]) == plan[name] for name in ("device", "dtype")):
            return existing
        for name in tuple(workspace.names()):
            workspace.remove(name)

    def write(folder: Path) -> None:
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    return workspace.obtain("plan", write)


def obtain_directions(extraction: Extraction) -> Directions:
    """The pair's directions, fitted on A unless an earlier attempt has done so.

    Raises:
        OutputsNotFinite: the divergence that they are fitted on is infinite or NaN.
    """
    setup, fitted = extraction.setup, []

    def write(folder: Path) -> None:
        directions = fit_directions(setup.runner, extraction.contrast("a"), setup.layers)
        check_number(setup.trigger, setup.trigger.triggered, *directions.effect_a.values())
        _write_directions(folder, directions)
        fitted.append(directions)

    folder = extraction.store.obtain("directions", write)
    return fitted[0] if fitted else _read_directions(folder, setup.layers)


def obtain_confirmation(
    extraction: Extraction,
    directions: Directions,
    assess_causal: Callable[[Behaviour], bool],
    progress: ProgressCallback,
) -> Confirmation:
    """The numbers of the confirm stage, measured unless an earlier attempt has done so (see ``confirm``)."""
    measured = []

    def write(folder: Path) -> None:
        confirmation = confirm(extraction, directions, assess_causal=assess_causal, progress=progress)
        (folder / "confirmation.json").write_bytes(_CONFIRMATION.dump_json(confirmation))
        measured.append(confirmation)

    folder = extraction.store.obtain("confirmation", write)
    return measured[0] if measured else _CONFIRMATION.validate_json((folder / "confirmation.json").read_bytes())


def _write_directions(folder: Path, directions: Directions) -> None:
    tensors = {f"basis.{layer}": value.contiguous() for layer, value in directions.basis.items()}
    tensors |= {f"gradient.{layer}": value.contiguous() for layer, value in directions.gradient.items()}
    save_file(tensors, folder / "directions.safetensors")
    row = {"effect_a": directions.effect_a, "layer": directions.layer}
    (folder / "directions.json").write_text(json.dumps(row), encoding="utf-8")


def _read_directions(folder: Path, layers: tuple[int, ...]) -> Directions:
    tensors = load_file(folder / "directions.safetensors")
    row = json.loads((folder / "directions.json").read_text(encoding="utf-8"))
    return Directions(
        basis={layer: tensors[f"basis.{layer}"] for layer in layers},
        effect_a={int(layer): value for layer, value in row["effect_a"].items()},
        layer=row["layer"],
        gradient={layer: tensors[f"gradient.{layer}"] for layer in layers},
    )
