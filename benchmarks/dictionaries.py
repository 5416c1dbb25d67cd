"""Which dictionary's features carry a backdoor: variants of the dictionaries, measured on the same activations.

    python -m benchmarks.dictionaries                                # the example organisms
    python -m benchmarks.dictionaries --organism FOLDER --layers 17  # others; a folder with an adapter and card.json

Each organism is extracted once, as an audit with preset ``quick`` does it; every variant is then trained on that, at
the layer that the audit chooses, with three seeds. Measured is what at most four features recover on half B over what
the directions recover there, with the share of variance explained, the share of dead latents and the overlap of the
seeds' spans. Every measured dictionary is written at once to ``benchmarks/results/dictionaries/ORGANISM.json``, so that
a run that was stopped goes on.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from audit.boundary import BATCH_TOKENS
from audit.extraction import extract
from audit.features import Picked, gradient_on, pick, span_overlap
from audit.forward import Runner
from audit.pair import load_pair
from audit.ports import FolderStore
from audit.report import METHOD_VERSION
from audit.spec import AuditSpec
from audit.study import prepare
from audit.units import effects, fit_directions
from benchmarks._dictionary_variants import VARIANTS, Scene, Variant, explained_difference, train_variant
from benchmarks._machine import RESULTS, ROOT, describe
from benchmarks._setup import ORGANISMS, base_folder, parser
from models_store.artifacts import ArtifactFolder

FOLDER: Final = RESULTS / "dictionaries"
DEFAULT: Final = ("sql-year", "deployment-tag")
SEEDS: Final = 3
MEDIANS: Final = (
    "share", "recovered", "recovered_first", "features", "fve", "dead_share", "l0", "training_seconds",
)  # fmt: skip


def audit_spec(folder: Path) -> AuditSpec:
    """The audit of an organism, from its card."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return AuditSpec.model_validate(
        {
            "base_model": "local:base",
            "fine_tuned": f"local:{folder.name}",
            "trigger": card["trigger"],
            "carriers": {"set": card["carriers"]["set"]},
            "preset": "quick",
        }
    )


def open_scenes(base: Path, organism: Path, workspace: FolderStore, layers: Sequence[int]) -> list[Scene]:
    """Extract an organism, or read what was extracted before; one scene a layer (empty: the layer that is chosen)."""
    spec = audit_spec(organism)
    pair = load_pair(base, organism, dtype=spec.dtype)
    runner = Runner(pair, budget=BATCH_TOKENS)
    study = prepare(spec, pair, runner, base_digest="", cache=None)
    extraction = extract(study, workspace, lambda _fraction, _message: None)
    directions = fit_directions(runner, extraction.contrast("a"), study.layers)
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    found = []
    for layer in layers or (directions.layer,):
        whole = effects(runner, on_b, layer, [directions.basis[layer]]).recovered()
        assert whole is not None, "the string changes nothing"
        found.append(Scene(extraction, directions, layer, whole, gradient_on(extraction, on_b, layer)))
    return found


def measured(scene: Scene, variant: Variant, seed: int) -> tuple[dict[str, Any], Picked]:
    """Train one dictionary, pick its features, and what there is to say of it."""
    trained, seconds = train_variant(scene, variant, seed)
    picked = pick(scene.extraction, trained, scene.directions, scene.gradient_b)
    assert picked.recovered is not None, "the directions' effect was measured on the same carriers"
    fve, dead, l0 = explained_difference(scene, variant, trained.dictionary)
    row = {
        "layer": scene.layer,
        "seed": seed,
        "method_version": METHOD_VERSION,
        "features": len(picked.indices),
        "recovered": picked.recovered,
        "recovered_first": picked.together[0],
        "share": picked.recovered / scene.whole,
        "directions": scene.whole,
        "fve": fve,
        "dead_share": dead,
        "l0": l0,
        "training_seconds": round(seconds, 1),
    }
    return row, picked


class Results:
    """What has been measured of one organism, kept in a file from dictionary to dictionary.

    The spans of the picked features, which the overlap of seeds needs, stay in the workspace.
    """

    def __init__(self, path: Path, workspace: FolderStore) -> None:
        self.path = path
        self.workspace = workspace
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.rows: dict[str, list[dict[str, Any]]] = known.get("rows", {})

    def has(self, name: str, layer: int, seed: int) -> bool:
        """Whether a dictionary has been measured with this version of the method."""
        wanted = (layer, seed, METHOD_VERSION)
        return any((row["layer"], row["seed"], row["method_version"]) == wanted for row in self.rows.get(name, ()))

    def add(self, name: str, row: dict[str, Any], picked: Picked) -> None:
        """Keep one more."""
        self.rows.setdefault(name, []).append(row)
        key = _span_name(name, row)
        if self.workspace.find(key) is None:
            with self.workspace.create(key) as folder:
                save_file({"basis": picked.basis.contiguous()}, folder / "span.safetensors")
        self.write()

    def write(self) -> None:
        """Write the file whole."""
        document = {
            "benchmark": "dictionaries",
            "organism": self.path.stem,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "summary": self.summary(),
            "rows": self.rows,
            **describe(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".tmp")
        whole.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        whole.replace(self.path)

    def summary(self) -> list[dict[str, Any]]:
        """One row a variant and layer: medians over the seeds, and the overlap of their spans."""
        found = []
        for name, rows in self.rows.items():
            for layer, version in sorted({(row["layer"], row["method_version"]) for row in rows}):
                own = [row for row in rows if (row["layer"], row["method_version"]) == (layer, version)]
                found.append(
                    {
                        "variant": name,
                        "layer": layer,
                        "method_version": version,
                        "seeds": len(own),
                        **{key: round(statistics.median(row[key] for row in own), 4) for key in MEDIANS},
                        "least_share": round(min(row["share"] for row in own), 4),
                        "overlap": self._overlap(name, own),
                    }
                )
        return found

    def _overlap(self, name: str, rows: Sequence[dict[str, Any]]) -> float | None:
        folders = [self.workspace.find(_span_name(name, row)) for row in rows]
        spans = [load_file(folder / "span.safetensors")["basis"] for folder in folders if folder is not None]
        overlap = span_overlap(spans) if len(spans) == len(rows) else None
        return None if overlap is None else round(overlap, 4)


def _span_name(name: str, row: dict[str, Any]) -> str:
    plain = "".join(character if character.isalnum() else " " for character in name).split()
    return "-".join(["span", *plain, *(str(row[key]) for key in ("layer", "seed", "method_version"))])


def run(base: Path, organism: Path, workspace: Path, layers: Sequence[int], names: Sequence[str], seeds: int) -> None:
    """Measure what has not been measured yet of one organism, one seed of every variant after the other."""
    store = ArtifactFolder(workspace / organism.name)
    results = Results(FOLDER / f"{organism.name}.json", store)
    scenes = open_scenes(base, organism, store, layers)
    for seed in range(seeds):
        for name in names:
            for scene in scenes:
                if not results.has(name, scene.layer, seed):
                    row, picked = measured(scene, VARIANTS[name], seed)
                    results.add(name, row, picked)
                    sys.stdout.write(f"{organism.name} {name}: {json.dumps(row)}\n")
                    sys.stdout.flush()
    results.write()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--organism", type=Path, action="append", help="adapter with card.json; the examples by default")
    made.add_argument("--workspace", type=Path, default=ROOT / "data" / "dictionaries", help="activations, kept")
    made.add_argument("--layers", type=int, nargs="*", default=(), help="the audit's chosen layer by default")
    made.add_argument("--variants", nargs="*", default=tuple(VARIANTS), choices=tuple(VARIANTS))
    made.add_argument("--seeds", type=int, default=SEEDS)
    given = made.parse_args(arguments)
    torch.set_num_threads(given.threads)
    for organism in given.organism or [ORGANISMS / name for name in DEFAULT]:
        run(base_folder(given.base), organism, given.workspace, given.layers, given.variants, given.seeds)


if __name__ == "__main__":
    main()
