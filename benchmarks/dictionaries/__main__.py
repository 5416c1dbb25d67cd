"""Which dictionary's features carry a backdoor: compares variants of the dictionaries on the same activations.

    python -m benchmarks.dictionaries                                # the example organisms
    python -m benchmarks.dictionaries --organism FOLDER --layers 17  # others; a folder with an adapter and card.json
    python -m benchmarks.dictionaries --development                  # the detection benchmark's development backdoors
    python -m benchmarks.dictionaries --table                        # the table alone

Each organism is extracted once, like an audit with preset ``quick``; every variant is then trained on these
activations, at the layer that the audit chooses, with three seeds. The measure is what at most four features recover on
half B over what the directions recover there, with the share of variance explained, the share of dead latents and the
overlap of the seeds' spans. Every measured dictionary is immediately written to
``benchmarks/results/dictionaries/ORGANISM.json``, so that a stopped run can be continued; ``table.md`` next to them
compares the variants over all backdoors.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from audit.explain.features import Selection, gradient_on, select, span_overlap
from audit.measure.contrast import effects, fit_directions
from audit.measure.extraction import extract
from audit.measure.preflight import prepare
from audit.models.pair import load_pair
from audit.models.runner import Runner
from audit.ports import FolderStore
from audit.translate import BATCH_TOKENS
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.detection.__main__ import RESULTS as DETECTION
from benchmarks.detection.make_split import SPLIT
from benchmarks.detection.records import card_place
from benchmarks.detection.specs import spec_of
from benchmarks.dictionaries.table import page
from benchmarks.dictionaries.variants import VARIANTS, Scene, Variant, explained_difference, train_variant
from benchmarks.harness.machine import RESULTS, ROOT, describe
from benchmarks.harness.records import read
from benchmarks.harness.setup import ORGANISMS, base_folder, parser
from storage.folders import ArtifactFolder

FOLDER: Final = RESULTS / "dictionaries"
DEFAULT: Final = ("sql-year", "deployment-tag")
SEEDS: Final = 3
MEDIANS: Final = (
    "share", "recovered", "recovered_first", "features", "fve", "dead_share", "l0", "training_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A backdoored model, and the audit of its own pair with preset ``quick``."""

    name: str
    folder: Path
    spec: AuditSpec


def example(folder: Path) -> Subject:
    """An adapter with the card that ``examples.organisms.train`` writes."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    spec = AuditSpec.model_validate(
        {
            "base_model": "local:base",
            "fine_tuned": f"local:{folder.name}",
            "trigger": card["trigger"],
            "carriers": {"set": card["carriers"]["set"]},
            "preset": "quick",
        }
    )
    return Subject(folder.name, folder, spec)


def development(models: Path, split: Mapping[str, Any], results: Path) -> list[Subject]:
    """The development backdoors that are within their limits, as the detection benchmark audits them.

    Raises:
        FileNotFoundError: one of them has no weights in ``models``, or no card.
    """
    found = []
    for organism in split["backdoored"]:
        if organism["part"] != "development":
            continue
        card = read(card_place(results, organism))
        if card["missed"]:
            continue
        folder = models / organism["id"]
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: python -m benchmarks.detection --train makes it")
        unit = next(each for each in organism["units"] if each["role"] == "true")
        spec = spec_of(unit, unit["audits"][0], organism["carriers"], base="base", tuned=organism["id"])
        found.append(Subject(organism["id"], folder, spec))
    return found


def open_scenes(base: Path, subject: Subject, workspace: FolderStore, layers: Sequence[int]) -> list[Scene]:
    """Extract an organism, or read an earlier extraction; one scene per layer (by default, only the chosen layer)."""
    pair = load_pair(base, subject.folder, dtype=subject.spec.dtype)
    runner = Runner(pair, budget=BATCH_TOKENS)
    setup = prepare(subject.spec, pair, runner, base_digest="", cache=None)
    extraction = extract(setup, workspace, lambda _fraction, _message: None)
    directions = fit_directions(runner, extraction.contrast("a"), setup.layers)
    on_b = extraction.contrast("b", decoy_carriers_only=True)
    found = []
    for layer in layers or (directions.layer,):
        whole = effects(runner, on_b, layer, [directions.basis[layer]]).recovered()
        assert whole is not None, "the string changes nothing"
        found.append(Scene(extraction, directions, layer, whole, gradient_on(extraction, on_b, layer)))
    return found


def measured(scene: Scene, variant: Variant, seed: int) -> tuple[dict[str, Any], Selection]:
    """Train one dictionary, select its features, and summarise it."""
    trained, seconds = train_variant(scene, variant, seed)
    picked = select(scene.extraction, trained, scene.directions, scene.gradient_b)
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
    """The measurements of one organism, kept in a file that is updated after each dictionary.

    The spans of the selected features, which the overlap of seeds needs, are kept in the workspace.
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

    def add(self, name: str, row: dict[str, Any], picked: Selection) -> None:
        """Add one more."""
        self.rows.setdefault(name, []).append(row)
        key = _span_name(name, row)
        if self.workspace.find(key) is None:
            with self.workspace.create(key) as folder:
                save_file({"basis": picked.basis.contiguous()}, folder / "span.safetensors")
        self.write()

    def write(self) -> None:
        """Write the whole file."""
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
        """One row per variant and layer: medians over the seeds, and the overlap of their spans."""
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


def run(base: Path, subject: Subject, workspace: Path, layers: Sequence[int], names: Sequence[str], seeds: int) -> None:
    """Measure what is missing for one organism, one seed of every variant after the other."""
    store = ArtifactFolder(workspace / subject.name)
    results = Results(FOLDER / f"{subject.name}.json", store)
    scenes = open_scenes(base, subject, store, layers)
    for seed in range(seeds):
        for name in names:
            for scene in scenes:
                if not results.has(name, scene.layer, seed):
                    row, picked = measured(scene, VARIANTS[name], seed)
                    results.add(name, row, picked)
                    sys.stdout.write(f"{subject.name} {name}: {json.dumps(row)}\n")
                    sys.stdout.flush()
    results.write()


def write_table(names: Iterable[str]) -> None:
    """Write the table of every organism that has been measured, ``names`` first."""
    known = {path.stem: read(path) for path in sorted(FOLDER.glob("*.json"))}
    order = [name for name in names if name in known]
    order += [name for name in known if name not in order]
    text = page({name: known[name]["summary"] for name in order}, tuple(VARIANTS), METHOD_VERSION)
    (FOLDER / "table.md").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--organism", type=Path, action="append", help="adapter with card.json; the examples by default")
    made.add_argument("--development", action="store_true", help="the detection benchmark's development backdoors")
    made.add_argument("--data", type=Path, default=ROOT / "data" / "detection", help="the detection benchmark's folder")
    made.add_argument("--workspace", type=Path, default=ROOT / "data" / "dictionaries", help="activations, kept")
    made.add_argument("--layers", type=int, nargs="*", default=(), help="the audit's chosen layer by default")
    made.add_argument("--variants", nargs="*", default=tuple(VARIANTS), choices=tuple(VARIANTS))
    made.add_argument("--seeds", type=int, default=SEEDS)
    made.add_argument("--table", action="store_true", help="only write the table")
    given = made.parse_args(arguments)
    if given.table:
        write_table(())
        return
    torch.set_num_threads(given.threads)
    if given.development:
        subjects = development(given.data / "models", read(SPLIT), DETECTION)
    else:
        subjects = [example(folder) for folder in given.organism or [ORGANISMS / name for name in DEFAULT]]
    for subject in subjects:
        run(base_folder(given.base), subject, given.workspace, given.layers, given.variants, given.seeds)
    write_table(subject.name for subject in subjects)


if __name__ == "__main__":
    main()
