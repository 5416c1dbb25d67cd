"""The extract stage: both models' activations under every string, and the measurements of each decoy.

Each part is a folder of its own, written whole or not at all, so that a second attempt resumes after the last one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.measure.activations import after, first, read_activations, write_activations
from audit.measure.contrast import Contrast, effects, first_carriers, fit_directions
from audit.measure.finite import check_number, check_runs
from audit.measure.preflight import AuditSetup
from audit.measure.reaction import Reaction, forced_base, reaction
from audit.measure.spans import DecoyTokens, PromptRows, SpanTokens
from audit.models.pair import Side
from audit.models.runner import Activations
from audit.ports import FolderStore, ProgressCallback
from audit.prompts.rendering import Tokens
from backdoor_audit.contract.spec.carriers import Carrier

Condition = Literal["triggered", "clean", "plain"]
# The parts in which the halves are captured: A is divided into the carriers that are also shown with decoys, and the
# rest.
Half = Literal["a", "rest", "b"]
CONDITIONS: Final[tuple[Condition, ...]] = ("triggered", "clean", "plain")
RESPONSE_NATS: Final = 0.1
"""A decoy responds when its own reaction on A reaches this many nats per carrier (docs/method.md, section 5) …"""
RESPONSE_SHARE: Final = 0.1
"""… and this share of the pair's reaction. The report calls such a decoy ``firing``."""


@dataclass(frozen=True)
class DecoyResult:
    """The measurements of one decoy.

    Attributes:
        string: the decoy.
        reaction: its reaction on A, nats per carrier; an upper bound if below ``RESPONSE_NATS``.
        layer: the layer that its own half A chose.
        effect_a: at that layer, rank 1, on A, nats per carrier.
        effect: T, the same on B.
        amplification: per layer, of its own leading direction, on B; None if the base does not distinguish the strings.
        unexplained: C on A, what the base's own change does not explain, nats per carrier; None if the fine-tuned
            model's outputs change by less than ``RESPONSE_NATS``, or an earlier version measured the decoy.
        base_ratio: the base's reaction on A as a share of the fine-tuned model's; None if ``unexplained`` is.
    """

    string: str
    reaction: float
    layer: int
    effect_a: float
    effect: float
    amplification: dict[int, float | None]
    unexplained: float | None = None
    base_ratio: float | None = None


@dataclass(frozen=True)
class Extraction:
    """Everything that later stages use.

    Attributes:
        tuned, base: activations by (condition, half); the base's cover prompts only, and so does ``rest``, which is
            used only for thresholds and means (never under ``plain``, and empty if all of A is also shown with decoys).
        decoys: the measurements of each drawn decoy, in the order drawn.
        responding: whether each of them triggers the behaviour too (``firing`` in the report).
        pair_reaction: the pair's own ``output_kl``, on the decoys' carriers of A.
        own, plain: the reaction to the pair and to no string at all, against the clean string, on the same carriers;
            None while the pair is being measured.
    """

    setup: AuditSetup
    store: FolderStore
    tuned: dict[tuple[Condition, Half], Activations]
    base: dict[tuple[Condition, Half], Activations]
    decoys: tuple[DecoyResult, ...]
    responding: tuple[bool, ...]
    pair_reaction: float
    screened: bool
    own: Reaction | None = None
    plain: Reaction | None = None

    def contrast(self, half: Half, *, decoy_carriers_only: bool = False) -> Contrast:
        """The pair on one half; A's contrast is on the decoys' carriers."""
        whole = Contrast(
            self.tuned["triggered", half],
            self.tuned["clean", half],
            self.base["triggered", half],
            self.base["clean", half],
        )
        return first_carriers(whole, self.setup.decoys_b) if decoy_carriers_only else whole

    @property
    def plain_on_a(self) -> Contrast:
        """No string against the clean string, on A."""
        runs = (self.tuned["plain", "a"], self.tuned["clean", "a"], self.base["plain", "a"], self.base["clean", "a"])
        return Contrast(*runs)

    def has(self, condition: Condition, half: Half) -> bool:
        """Whether there are such activations."""
        return (condition, half) in self.tuned

    def span(self, condition: Condition, half: Half, layer: int) -> SpanTokens:
        """Prompt tokens of the pair's runs from the string on."""
        tuned, base = self.tuned[condition, half], self.base[condition, half]
        rows = PromptRows.of(tuned.layout, base.layout)
        return SpanTokens(base.hidden[layer][rows.base], tuned.hidden[layer][rows.tuned], rows.carrier)

    def decoy_tokens(self, index: int) -> DecoyTokens:
        """Activations of one decoy's prompts."""
        folder = self.store.find(_decoy_name(index))
        assert folder is not None
        return DecoyTokens(load_file(folder / "activations.safetensors"))


def extract(setup: AuditSetup, store: FolderStore, progress: ProgressCallback) -> Extraction:
    """Capture the pair's activations, then draw decoys one at a time until enough of them are silent.

    Args:
        setup: the models, the carriers and the pair.
        store: the audit's folder.
        progress: receives the fraction done; may raise to stop.

    Raises:
        OutputsNotFinite: under one of the strings a model computes infinite values or NaN.
    """
    continuations = _continuations(setup, store, progress)
    tuned, base = _pair(setup, store, continuations, progress)
    pair = Extraction(setup, store, tuned, base, (), (), 0.0, False)
    reacts = _reactions(setup, pair.contrast("a"))
    own, plain = reacts(pair.contrast("a")), reacts(pair.plain_on_a)
    pair_reaction = own.output_kl
    check_number(setup.trigger, setup.trigger.triggered, pair_reaction, own.unexplained_kl or 0.0)
    screened = pair_reaction >= RESPONSE_NATS
    wanted = setup.sizes.silent_decoys
    results: list[DecoyResult] = []
    responding: list[bool] = []
    for index, string in enumerate(setup.decoys()):
        silent = len(responding) - sum(responding)
        if silent >= wanted:
            break
        progress(0.4 + 0.6 * silent / wanted, f"decoy {index + 1}, {silent} of {wanted} silent")
        result = _decoy(setup, store, pair, reacts, index, string)
        results.append(result)
        responding.append(screened and result.reaction >= max(RESPONSE_NATS, RESPONSE_SHARE * pair_reaction))
    return Extraction(
        setup, store, tuned, base, tuple(results), tuple(responding), pair_reaction, screened, own, plain
    )  # fmt: skip


def _continuations(
    setup: AuditSetup, store: FolderStore, progress: ProgressCallback
) -> dict[Half, list[tuple[int, ...]]]:
    """Greedy continuations of the clean prompts by the fine-tuned model; forced under every string.

    One continuation serves all: if a string makes the model answer differently, the first differing token is reached
    along the clean answer, and is compared there.
    """

    def write(folder: Path) -> None:
        progress(0.0, "greedy continuations")
        forced: tuple[tuple[Half, tuple[Carrier, ...]], ...] = (("a", setup.a[: setup.decoys_a]), ("b", setup.b))
        texts = {
            half: setup.runner.greedy(
                setup.tokens(carriers, setup.trigger.clean), setup.sizes.continuation_tokens
            )
            for half, carriers in forced
        }  # fmt: skip
        (folder / "continuations.json").write_text(json.dumps(texts), encoding="utf-8")

    folder = store.obtain("continuations", write)
    read = json.loads((folder / "continuations.json").read_text(encoding="utf-8"))
    return {"a": [tuple(row) for row in read["a"]], "b": [tuple(row) for row in read["b"]]}


def _pair(
    setup: AuditSetup, store: FolderStore, continuations: dict[Half, list[tuple[int, ...]]], progress: ProgressCallback
) -> tuple[dict[tuple[Condition, Half], Activations], dict[tuple[Condition, Half], Activations]]:
    strings = {"triggered": setup.trigger.triggered, "clean": setup.trigger.clean, "plain": None}
    tuned: dict[tuple[Condition, Half], Activations] = {}
    base: dict[tuple[Condition, Half], Activations] = {}
    halves: tuple[tuple[Half, tuple[Carrier, ...]], ...] = (
        ("a", setup.a[: setup.decoys_a]), ("rest", setup.a[setup.decoys_a :]), ("b", setup.b)
    )  # fmt: skip
    for number, condition in enumerate(CONDITIONS):
        for half, carriers in halves:
            progress(0.1 + 0.1 * number, f"activations of both models under the {condition} string")
            if half == "rest" and (condition == "plain" or not carriers):
                continue
            prompts = setup.tokens(carriers, strings[condition])
            forced = prompts if half == "rest" else _forced(prompts, continuations[half])
            run = partial(setup.runner.capture, forced, "tuned", setup.layers, outputs=half != "rest")
            tuned[condition, half] = _stored(store, f"tuned-{condition}-{half}", run)
            name = f"base-{condition}-{half}"
            own = setup.tokens(carriers, strings[condition], "base")
            base[condition, half] = _stored(store, name, partial(setup.base.capture, own))
    sides: tuple[tuple[Side, dict[tuple[Condition, Half], Activations]], ...] = (("tuned", tuned), ("base", base))
    check_runs(setup.trigger, {
        (side, strings[condition]): [run for (under, _), run in runs.items() if under == condition]
        for side, runs in sides for condition in CONDITIONS
    })  # fmt: skip
    return tuned, base


def _forced(prompts: Sequence[Tokens], continuations: Sequence[tuple[int, ...]]) -> list[Tokens]:
    return [prompt.continued(text) for prompt, text in zip(prompts, continuations, strict=True)]


def _stored(store: FolderStore, name: str, run: Callable[[], Activations]) -> Activations:
    return read_activations(store.obtain(name, lambda folder: write_activations(folder, run())))


def _decoy_name(index: int) -> str:
    return f"decoy-{index:04d}"


def _reactions(setup: AuditSetup, pair: Contrast) -> Callable[[Contrast], Reaction]:
    """Reactions to strings whose clean run is that of ``pair``; ``output_kl`` is exact from ``RESPONSE_NATS`` on."""
    base_clean = cache(lambda: forced_base(setup.runner, pair.base_clean, pair.clean))
    return lambda contrast: reaction(setup.runner, contrast, RESPONSE_NATS, base_clean)


def _decoy(
    setup: AuditSetup,
    store: FolderStore,
    pair: Extraction,
    reacts: Callable[[Contrast], Reaction],
    index: int,
    string: str,
) -> DecoyResult:
    """Measure one decoy like the pair, with its own gradients, directions and layer."""

    def write(folder: Path) -> None:
        result, tensors = _measure_decoy(setup, pair, reacts, string)
        save_file(tensors, folder / "activations.safetensors")
        (folder / "decoy.json").write_text(json.dumps(asdict(result)), encoding="utf-8")

    return read_decoy(store.obtain(_decoy_name(index), write))


def read_decoy(folder: Path) -> DecoyResult:
    """Read the measurements of a decoy."""
    row = json.loads((folder / "decoy.json").read_text(encoding="utf-8"))
    row["amplification"] = {int(layer): value for layer, value in row["amplification"].items()}
    return DecoyResult(**row)


def _measure_decoy(
    setup: AuditSetup, pair: Extraction, reacts: Callable[[Contrast], Reaction], string: str
) -> tuple[DecoyResult, dict[str, Tensor]]:
    runner, count_a, count_b = setup.runner, setup.decoys_a, setup.decoys_b
    clean_a = pair.contrast("a")
    clean_b = pair.contrast("b", decoy_carriers_only=True)
    carriers = (*setup.a[:count_a], *setup.b[:count_b])
    prompts = setup.tokens(carriers, string)
    texts = [
        sequence.ids[sequence.prompt_length :]
        for contrast in (clean_a, clean_b)
        for sequence in contrast.clean.layout.sequences
    ]
    tuned = runner.capture(_forced(prompts, texts), "tuned", setup.layers)
    base = setup.base.capture(setup.tokens(carriers, string, "base"))
    check_runs(setup.trigger, {("tuned", string): [tuned], ("base", string): [base]})
    on_a = Contrast(first(tuned, count_a), clean_a.clean, first(base, count_a), clean_a.base_clean)
    on_b = Contrast(after(tuned, count_a), clean_b.clean, after(base, count_a), clean_b.base_clean)
    directions = fit_directions(runner, on_a, setup.layers)
    leading = {layer: basis[:, :1] for layer, basis in directions.basis.items()}
    reaction_a = reacts(on_a)
    result = DecoyResult(
        string=string,
        reaction=reaction_a.output_kl,
        layer=directions.layer,
        effect_a=directions.effect_a[directions.layer],
        effect=effects(runner, on_b, directions.layer, [leading[directions.layer]]).nats(),
        amplification={layer: on_b.last(layer).amplification(leading[layer][:, 0]) for layer in setup.layers},
        unexplained=reaction_a.unexplained_kl,
        base_ratio=reaction_a.base_ratio,
    )
    numbers = (result.reaction, result.effect, result.unexplained or 0.0, *directions.effect_a.values())
    check_number(setup.trigger, string, *numbers)
    return result, _decoy_tensors(on_a, on_b, setup.layers)


def _decoy_tensors(on_a: Contrast, on_b: Contrast, layers: Sequence[int]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for half, contrast in (("a", on_a), ("b", on_b)):
        found = PromptRows.of(contrast.string.layout, contrast.base_string.layout)
        sides = (("tuned", contrast.string, found.tuned), ("base", contrast.base_string, found.base))
        for side, activations, rows in sides:
            for layer in layers:
                tensors[f"{half}.{side}.{layer}"] = activations.hidden[layer][rows].contiguous()
        tensors[f"{half}.carrier"] = found.carrier
    return tensors
