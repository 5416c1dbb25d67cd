"""The pair's directions, kept on disk for a second attempt."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from audit.measure.contrast import Contrast, Directions, fit_directions
from audit.measure.finite import check_number
from audit.measure.preflight import AuditSetup
from audit.ports import FolderStore


def obtain_directions(setup: AuditSetup, store: FolderStore, on_a: Contrast) -> Directions:
    """The pair's directions, fitted on A unless an earlier attempt has done so.

    Raises:
        OutputsNotFinite: the divergence that they are fitted on is infinite or NaN.
    """
    fitted = []

    def write(folder: Path) -> None:
        directions = fit_directions(setup.runner, on_a, setup.layers)
        check_number(setup.trigger, setup.trigger.triggered, *directions.effect_a.values())
        write_directions(folder, directions)
        fitted.append(directions)

    folder = store.obtain("directions", write)
    return fitted[0] if fitted else read_directions(folder, setup.layers)


def write_directions(folder: Path, directions: Directions) -> None:
    """Write directions into an empty folder."""
    tensors = {f"basis.{layer}": value.contiguous() for layer, value in directions.basis.items()}
    tensors |= {f"gradient.{layer}": value.contiguous() for layer, value in directions.gradient.items()}
    save_file(tensors, folder / "directions.safetensors")
    row = {"effect_a": directions.effect_a, "layer": directions.layer}
    (folder / "directions.json").write_text(json.dumps(row), encoding="utf-8")


def read_directions(folder: Path, layers: tuple[int, ...]) -> Directions:
    """Read directions back."""
    tensors = load_file(folder / "directions.safetensors")
    row = json.loads((folder / "directions.json").read_text(encoding="utf-8"))
    return Directions(
        basis={layer: tensors[f"basis.{layer}"] for layer in layers},
        effect_a={int(layer): value for layer, value in row["effect_a"].items()},
        layer=row["layer"],
        gradient={layer: tensors[f"gradient.{layer}"] for layer in layers},
    )
