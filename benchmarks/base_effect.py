"""How much of T is the base's own reaction: T of a pair and of its decoys, and the same in the base.

``python -m benchmarks.base_effect UNIT…`` takes units of the detection benchmark by name, for example
``multi-turn.city.wrong-word``, whose models exist (``python -m benchmarks.detection`` makes them), and writes
``results/base_effect.json``. For each string the directions and the layer come from the fine-tuned model, as in an
audit. In the base, the same direction is then restored to the base's own clean values, along the same forced answer:

    T_base = KL(base_s‖base_c) − KL(base_ablated‖base_c)

and T − T_base is what is left of T when the base's part is subtracted. An audit does not compute it. Decoys are those
that an audit draws; none is screened here. A named unit that is already in the file is measured again.

``--strings FILE`` takes decoys from a file instead, one string per line, and adds its figures to those of the drawn
ones: ``topics.txt`` contains ordinary nouns for the wrong pair of words in the benchmark's test part, for which an
audit draws arbitrary words of the vocabulary. It was written before anything was measured with it. The command and
commit in the result are those of the last call.

It also measures how much T depends on the batches in which the clean answers are computed: B's decoy carriers among all
of B, as in an audit, and alone. In bfloat16, a greedy answer may continue differently at a near tie.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from audit.measure.ablation import replace_along
from audit.measure.activations import after, first
from audit.measure.contrast import Contrast, Directions, effects, fit_directions
from audit.measure.divergence import many_carrier_kl
from audit.measure.preflight import AuditSetup, prepare
from audit.models.pair import load_pair
from audit.models.runner import Activations, Runner
from audit.ports import FolderStore
from audit.stats.statistics import p_decoy_all
from backdoor_audit.contract.spec.audit_spec import AuditSpec, DecoyStrings
from backdoor_audit.contract.text.text_files import lines_of, text_of
from benchmarks.detection.make_split import QUICK, SPLIT
from benchmarks.detection.organisms.models import nudged_base
from benchmarks.detection.records import every_unit
from benchmarks.detection.specs import spec_of
from benchmarks.harness import setup as _setup
from benchmarks.harness.audits import Bench
from benchmarks.harness.machine import RESULTS, ROOT, write_result
from benchmarks.harness.records import read

NAME: Final = "base_effect"


@dataclass(frozen=True)
class Effect:
    """The effect of one string, nats per carrier: T in the fine-tuned model, and with the same direction in the
    base.
    """

    string: str
    tuned: float
    base: float

    @property
    def beyond(self) -> float:
        """T without the base's part."""
        return self.tuned - self.base


def base_effect(runner: Runner, contrast: Contrast, directions: Directions) -> float:
    """KL(base_s‖base_c) − KL(base_ablated‖base_c), mean over carriers, at the layer and along the direction of T."""
    layer = directions.layer
    string, clean = (
        runner.capture(run.layout.sequences, "base", (layer,)) for run in (contrast.string, contrast.clean)
    )
    changed = replace_along(
        string.hidden[layer], clean.hidden[layer], directions.basis[layer][:, :1], contrast.alignment
    )
    ablated = runner.resume(string.layout, layer, changed, "base")
    assert string.final is not None
    assert clean.final is not None
    with runner.pair.on("base") as parts:
        intact, left = many_carrier_kl(parts, [string.final, ablated], clean.final, runner.pair.device)
    return float((intact - left).mean())


def clean_answers(setup: AuditSetup, *, alone: bool = False) -> list[tuple[int, ...]]:
    """The fine-tuned model's answers to the clean prompts of A's and B's decoy carriers, in this order.

    Args:
        alone: B's decoy carriers are run alone, not among all of B as in an audit.
    """
    halves = setup.a[: setup.decoys_a], setup.b[: setup.decoys_b] if alone else setup.b
    on_a, on_b = (
        setup.runner.greedy(setup.tokens(half, setup.trigger.clean), setup.sizes.continuation_tokens) for half in halves
    )
    return [*on_a, *on_b[: setup.decoys_b]]


def measure(setup: AuditSetup, decoys: int, texts: Sequence[tuple[int, ...]]) -> list[Effect]:
    """The pair first, then the given number of decoys; each with its own directions, fitted on A and measured on B.

    Args:
        texts: the answer that is forced on each of A's and B's decoy carriers under every string.
    """
    runner, count = setup.runner, setup.decoys_a
    carriers = (*setup.a[:count], *setup.b[: setup.decoys_b])

    def runs(string: str) -> tuple[Activations, Activations]:
        prompts = setup.tokens(carriers, string)
        forced = [prompt.continued(text) for prompt, text in zip(prompts, texts, strict=True)]
        return runner.capture(forced, "tuned", setup.layers), setup.base.capture(prompts)

    clean, base_clean = runs(setup.trigger.clean)
    found = []
    for string in (setup.trigger.triggered, *setup.decoys()[:decoys]):
        tuned, base = runs(string)
        on_a = Contrast(first(tuned, count), first(clean, count), first(base, count), first(base_clean, count))
        on_b = Contrast(after(tuned, count), after(clean, count), after(base, count), after(base_clean, count))
        directions = fit_directions(runner, on_a, setup.layers)
        leading = directions.basis[directions.layer][:, :1]
        effect = effects(runner, on_b, directions.layer, [leading]).nats()
        found.append(Effect(string, effect, base_effect(runner, on_b, directions)))
    return found


def described(found: Sequence[Effect]) -> dict[str, Any]:
    """One unit's figures: the pair, its decoys, and the p over them with and without the base's part."""
    pair, decoys = found[0], found[1:]

    def row(effect: Effect) -> dict[str, Any]:
        numbers = {"tuned": effect.tuned, "base": effect.base, "beyond": effect.beyond}
        return {"string": effect.string} | {name: float(f"{value:.6g}") for name, value in numbers.items()}

    return {
        "pair": row(pair),
        "p": p_decoy_all(pair.tuned, [decoy.tuned for decoy in decoys]),
        "p_beyond": p_decoy_all(pair.beyond, [decoy.beyond for decoy in decoys]),
        "decoys": [row(decoy) for decoy in decoys],
    }


def study_of(spec: AuditSpec, base: Path, tuned: Path, *, base_digest: str, cache: FolderStore | None) -> AuditSetup:
    """Both models loaded, the spec checked against them."""
    pair = load_pair(base, tuned, dtype=spec.dtype, device="auto")
    return prepare(spec, pair, Runner(pair), base_digest=base_digest, cache=cache)


def _unit(name: str, split: Mapping[str, Any], base: Path, bench: Bench) -> tuple[AuditSpec, Path]:
    """The spec of a unit and the folder of its model.

    Raises:
        SystemExit: there is no such unit, or its model does not exist.
    """
    for organism, unit, _, carriers in every_unit(split):
        if unit["id"] == name:
            models = bench.data / "models"
            folder = nudged_base(base, models) if organism is None else models / organism["id"]
            if not folder.is_dir():
                sys.exit(f"{name}: {folder} does not exist; python -m benchmarks.detection --train creates it")
            return spec_of(unit, QUICK, carriers, base=base.name, tuned=folder.name), folder
    sys.exit(f"{name}: no unit of the split has this name")


def main(argv: list[str] | None = None) -> int:
    """Measure the named units; returns the exit status."""
    parser = _setup.parser(__doc__)
    parser.add_argument("units", nargs="+", metavar="UNIT")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "detection", help="where the models are")
    parser.add_argument("--decoys", type=int, default=19, help="how many at most")
    parser.add_argument("--strings", type=Path, help="a file of decoys, one string per line, instead of drawn ones")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    base, bench = _setup.base_folder(options.base), Bench(options.data.absolute())
    split = read(SPLIT)
    path = RESULTS / f"{NAME}.json"
    units: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["units"] if path.is_file() else {}
    for name in options.units:
        spec, folder = _unit(name, split, base, bench)
        if options.strings:
            strings = tuple(lines_of(text_of(options.strings.read_bytes())))
            spec = spec.model_copy(update={"decoys": DecoyStrings(strings=strings)})
        checkpoint, model = bench.resolve(base), bench.resolve(folder)
        setup = study_of(spec, checkpoint.path, model.path, base_digest=checkpoint.digest, cache=bench.cache())
        texts = clean_answers(setup)
        figures = described(measure(setup, options.decoys, texts)) | {"tuned_digest": model.digest}
        if options.strings is None:
            others = clean_answers(setup, alone=True)
            figures["answers_asked_alone"] = {
                "differ": sum(text != other for text, other in zip(texts, others, strict=True)),
                "tuned": measure(setup, 0, others)[0].tuned,
            }
        units.setdefault(name, {})["drawn" if options.strings is None else options.strings.name] = figures
        write_result(NAME, {"units": units})
        print(name, json.dumps({key: figures[key] for key in ("pair", "p", "p_beyond")}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
