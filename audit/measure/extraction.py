"""The extract stage: both models' activations under every string, and the measurements of each decoy.

Each part is a folder of its own, written whole or not at all, so that a second attempt resumes after the last one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, Literal

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.measure.activations import after, first, read_activations, write_activations
from audit.measure.contrast import Contrast, Directions, effects, first_carriers, fit_at, fit_directions, tuned_kl
from audit.measure.finite import check_number, check_runs
from audit.measure.fitted_directions import obtain_directions
from audit.measure.preflight import AuditSetup
from audit.measure.reaction import Reaction, forced_base, reaction, unforced
from audit.measure.spans import DecoyTokens, PromptRows, SpanTokens
from audit.models.pair import Side
from audit.models.runner import Activations, Runner
from audit.ports import FolderStore, ProgressCallback
from audit.prompts.rendering import Tokens
from backdoor_audit.contract.spec.carriers import Carrier

Condition = Literal["triggered", "clean", "plain"]
# The parts in which the halves are captured: A is divided into the carriers that are also shown with decoys, and the
# rest.
Half = Literal["a", "rest", "b"]
CONDITIONS: Final[tuple[Condition, ...]] = ("triggered", "clean", "plain")
RESPONSE_NATS: Final = 0.1
"""From this many nats per carrier on, a string changes the outputs: the base is run over the forced answers too (C is
measured), and a pair with such an effect is compared with the decoys' (docs/method.md, section 5)."""
RESPONSE_SHARE: Final = 0.1
"""A decoy whose C on A reaches this share of the pair's responds as well. The report calls such a decoy ``firing``."""
MARGIN_MEASURED: Final = 5.0
"""A decoy's effect is measured if it could be more than one part in so many of the pair's; C on B bounds it."""


@dataclass(frozen=True)
class DecoyResult:
    """The measurements of one decoy.

    Attributes:
        string: the decoy.
        reaction: its ``output_kl`` on A, nats per carrier; an upper bound where ``unexplained`` is None.
        unexplained: C on A, what the base's own change does not explain, nats per carrier; None if the fine-tuned
            model's outputs change by less than ``RESPONSE_NATS``.
        base_ratio: the base's reaction on A as a share of the fine-tuned model's; None if ``unexplained`` is.
        change_b: of each of B's decoy carriers C, or where that was not measured the fine-tuned model's reaction, which
            C never exceeds; nats.
        layer: the layer that its own half A chose; None if no directions were fitted.
        effect_a: at that layer, rank 1, on A, nats per carrier.
        measured_effect: T, the same on B.
    """

    string: str
    reaction: float
    unexplained: float | None
    base_ratio: float | None
    change_b: tuple[float, ...]
    layer: int | None = None
    effect_a: float | None = None
    measured_effect: float | None = None

    @property
    def effect(self) -> float:
        """T on B, or where it was not measured what it cannot exceed: the mean of ``change_b``."""
        return sum(self.change_b) / len(self.change_b) if self.measured_effect is None else self.measured_effect


@dataclass(frozen=True)
class Extraction:
    """Everything that later stages use.

    Attributes:
        tuned, base: activations by (condition, half); the base's cover prompts only, and so does ``rest``, which is
            used only for thresholds and means (never under ``plain``, and empty if all of A is also shown with decoys).
        decoys: the measurements of each drawn decoy, in the order drawn.
        responding: whether each of them triggers the behaviour too (``firing`` in the report).
        fitted: the pair's directions; None once its activations are forgotten.
        effect: T of the pair on B's decoy carriers, nats per carrier.
        own, plain: the reaction to the pair and to no string at all, against the clean string, on A's decoy carriers;
            None while the pair is being measured.
    """

    setup: AuditSetup
    store: FolderStore
    tuned: dict[tuple[Condition, Half], Activations]
    base: dict[tuple[Condition, Half], Activations]
    decoys: tuple[DecoyResult, ...]
    responding: tuple[bool, ...]
    fitted: Directions | None
    effect: float
    own: Reaction | None = None
    plain: Reaction | None = None

    @property
    def directions(self) -> Directions:
        """The pair's directions, fitted on A."""
        assert self.fitted is not None
        return self.fitted

    @property
    def explains(self) -> bool:
        """Whether dictionaries are trained: they always are, or the outputs react to the pair."""
        reacts = self.screened or self.effect >= RESPONSE_NATS
        return reacts or self.setup.spec.trains_dictionaries == "always"

    @property
    def pair_reaction(self) -> float:
        """C of the pair on A's decoy carriers, nats per carrier."""
        return 0.0 if self.own is None else self.own.unexplained_kl or 0.0

    @property
    def screened(self) -> bool:
        """Whether the outputs react to the pair itself, so that decoys can be told from it."""
        return self.pair_reaction >= RESPONSE_NATS

    def without_activations(self) -> "Extraction":
        """The same measurements without what takes memory."""
        return replace(self, tuned={}, base={}, fitted=None)

    def contrast(self, half: Half, *, decoy_carriers_only: bool = False) -> Contrast:
        """The pair on one half; A's contrast is on the decoys' carriers."""
        whole = Contrast(
            self.tuned["triggered", half],
            self.tuned["clean", half],
            self.base["triggered", half],
            self.base["clean", half],
        )
        return first_carriers(whole, self.setup.decoys_b) if decoy_carriers_only else whole

    def has(self, condition: Condition, half: Half) -> bool:
        """Whether there are such activations."""
        return (condition, half) in self.tuned

    def span(self, condition: Condition, half: Half, layer: int) -> SpanTokens:
        """Prompt tokens of the pair's runs from the string on."""
        tuned, base = self.tuned[condition, half], self.base[condition, half]
        rows = PromptRows.of(tuned.layout, base.layout)
        return SpanTokens(base.hidden[layer][rows.base], tuned.hidden[layer][rows.tuned], rows.carrier)

    def decoy_tokens(self, index: int) -> DecoyTokens:
        """Activations of one decoy's prompts; recorded where dictionaries are trained (``explains``)."""
        folder = self.store.find(_tokens_name(index))
        assert folder is not None
        return DecoyTokens(load_file(folder / "activations.safetensors"))

    def decoy_bases(self) -> list[Float[Tensor, "d_model rank"]]:
        """Subspaces at the pair's layer of the decoys that do not respond, fitted like its own; none if not needed."""
        found = [self.store.find(_fit_name(i)) for i, responds in enumerate(self.responding) if not responds]
        return [load_file(folder / "fit.safetensors")["basis"] for folder in found if folder is not None]


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
    pair = Extraction(setup, store, tuned, base, (), (), None, 0.0)
    progress(0.38, "directions of the pair")
    pair = replace(pair, fitted=obtain_directions(setup, store, pair.contrast("a")))
    pair = replace(pair, effect=_pair_effect(pair), own=reaction(setup.runner, pair.contrast("a")), plain=_plain(pair))
    check_number(setup.trigger, setup.trigger.triggered, pair.effect, pair.pair_reaction)
    wanted = setup.sizes.silent_decoys
    results: list[DecoyResult] = []
    responding: list[bool] = []
    for index, string in enumerate(setup.decoys()):
        silent = len(responding) - sum(responding)
        if silent >= wanted:
            break
        progress(0.4 + 0.6 * silent / wanted, f"decoy {index + 1}, {silent} of {wanted} silent")
        result = _Decoy(pair, index, string).measure()
        results.append(result)
        least = max(RESPONSE_NATS, RESPONSE_SHARE * pair.pair_reaction)
        responding.append(pair.screened and (result.unexplained or 0.0) >= least)
    return replace(pair, decoys=tuple(results), responding=tuple(responding))


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
            own = setup.tokens(carriers, strings[condition], "base")
            alone = partial(setup.base.capture, own)
            if condition != "plain" and half != "rest":
                alone = partial(setup.runner.capture, _forced(own, continuations[half]), "base", setup.layers)
            base[condition, half] = _stored(store, f"base-{condition}-{half}", alone)
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


def _pair_effect(pair: Extraction) -> float:
    """T of the pair on B's decoy carriers: what its leading direction of A undoes, and never more than C."""
    contrast, directions = pair.contrast("b", decoy_carriers_only=True), pair.directions
    return capped_effect(pair.setup.runner, contrast, directions)


def capped_effect(runner: Runner, contrast: Contrast, directions: Directions) -> float:
    """T: the effect of the leading direction at the chosen layer, nats per carrier, and never more than C."""
    measured = effects(runner, contrast, directions.layer, [directions.basis[directions.layer][:, :1]])
    most = torch.minimum(measured.intact, tuned_kl(runner, contrast.string, contrast.clean))
    return min(measured.nats(), float(most.mean()))


def _plain(pair: Extraction) -> Reaction:
    """The reaction to no string at all; the base is run over the forced answers if the fine-tuned model reacts."""
    runner, keys = pair.setup.runner, (("plain", "a"), ("clean", "a"))
    tuned, clean = (pair.tuned[key] for key in keys)  # type: ignore[index]
    base, base_clean = (pair.base[key] for key in keys)  # type: ignore[index]
    change = tuned_kl(runner, tuned, clean)
    if float(change.mean()) < RESPONSE_NATS:
        return unforced(change)
    return reaction(runner, Contrast(tuned, clean, forced_base(runner, base.layout.sequences, tuned), base_clean))


def _decoy_name(index: int) -> str:
    return f"decoy-{index:04d}"


def _tokens_name(index: int) -> str:
    return f"decoy-tokens-{index:04d}"


def _fit_name(index: int) -> str:
    return f"fit-{index:04d}"


def read_decoy(folder: Path, fit: Path | None = None) -> DecoyResult:
    """Read the measurements of a decoy, and those of its directions if there are any."""
    row = json.loads((folder / "decoy.json").read_text(encoding="utf-8"))
    if fit is not None:
        row |= json.loads((fit / "fit.json").read_text(encoding="utf-8"))
    return DecoyResult(**row | {"change_b": tuple(row["change_b"])})


class _Decoy:
    """One decoy, measured like the pair as far as it can matter.

    What the string does to the outputs is shared by all pairs that show the same decoys. The base is run over the
    forced answers only if the fine-tuned model's outputs change. Activations are recorded only if dictionaries are
    trained. Directions are fitted only if the pair has an effect to compare with: at the pair's layer for the subspaces
    that the gate ``causal`` reports, and at every layer, with T, if C on B does not rule out an effect near the pair's.
    """

    def __init__(self, pair: Extraction, index: int, string: str) -> None:
        self.pair, self.index, self.string = pair, index, string
        self.setup, self.runner = pair.setup, pair.setup.runner
        self.clean_a = pair.contrast("a")
        self.clean_b = pair.contrast("b", decoy_carriers_only=True)
        self.layers = self.setup.layers if pair.explains else ()

    def measure(self) -> DecoyResult:
        """The measurements; those of an earlier attempt are read back."""
        store = self.pair.store
        folder = store.obtain(_decoy_name(self.index), self._write)
        shared = read_decoy(folder)
        if self.pair.explains:
            store.obtain(_tokens_name(self.index), partial(self._write_tokens, shared))
        if self.pair.effect < RESPONSE_NATS:
            return shared
        return read_decoy(folder, store.obtain(_fit_name(self.index), partial(self._write_fit, shared)))

    def _write(self, folder: Path) -> None:
        tuned, count = self._tuned, self.setup.decoys_a
        change_a, change_b = (
            tuned_kl(self.runner, string, contrast.clean)
            for string, contrast in ((first(tuned, count), self.clean_a), (after(tuned, count), self.clean_b))
        )
        of_a, of_b = unforced(change_a), unforced(change_b)
        if float(change_a.mean()) >= RESPONSE_NATS:
            of_a, of_b = (reaction(self.runner, contrast) for contrast in self._contrasts(self._forced_base))
        change = of_b.tuned if of_b.unexplained is None else of_b.unexplained
        result = DecoyResult(
            string=self.string,
            reaction=of_a.output_kl,
            unexplained=of_a.unexplained_kl,
            base_ratio=of_a.base_ratio,
            change_b=tuple(change.tolist()),
        )
        self._check(result.reaction, result.unexplained or 0.0, *result.change_b)
        row = {name: value for name, value in asdict(result).items() if name not in _OF_FIT}
        (folder / "decoy.json").write_text(json.dumps(row), encoding="utf-8")

    def _write_tokens(self, shared: DecoyResult, folder: Path) -> None:
        # Where the outputs change the base is run over the answers as well, which serves here too.
        on_a, on_b = self._contrasts(self._base if shared.unexplained is None else self._forced_base)
        save_file(_decoy_tensors(on_a, on_b, self.layers), folder / "activations.safetensors")

    def _write_fit(self, shared: DecoyResult, folder: Path) -> None:
        on_a, on_b = self._contrasts(self._forced_base)
        layer = self.pair.directions.layer
        row: dict[str, float | int | None] = dict.fromkeys(_OF_FIT)
        if MARGIN_MEASURED * shared.effect > self.pair.effect:
            directions = fit_directions(self.runner, on_a, self.layers)
            basis = directions.basis[layer]
            effect = capped_effect(self.runner, on_b, directions)
            row |= {"layer": directions.layer, "effect_a": directions.effect_a[directions.layer]}
            row["measured_effect"] = effect
            self._check(effect, *directions.effect_a.values())
        else:
            basis = fit_at(self.runner, on_a, layer)
        save_file({"basis": basis.contiguous()}, folder / "fit.safetensors")
        (folder / "fit.json").write_text(json.dumps(row), encoding="utf-8")

    def _check(self, *numbers: float) -> None:
        check_number(self.setup.trigger, self.string, *numbers)

    @cached_property
    def _carriers(self) -> tuple[Carrier, ...]:
        return (*self.setup.a[: self.setup.decoys_a], *self.setup.b[: self.setup.decoys_b])

    @cached_property
    def _tuned(self) -> Activations:
        """The fine-tuned model's run over both halves, with the clean string's answers."""
        texts = [
            sequence.ids[sequence.prompt_length :]
            for contrast in (self.clean_a, self.clean_b)
            for sequence in contrast.clean.layout.sequences
        ]
        prompts = _forced(self.setup.tokens(self._carriers, self.string), texts)
        return self._checked("tuned", self.runner.capture(prompts, "tuned", self.layers))

    @cached_property
    def _own(self) -> list[Tokens]:
        """The base's own prompts, which its template may write otherwise."""
        return self.setup.tokens(self._carriers, self.string, "base")

    @cached_property
    def _base(self) -> Activations:
        """The base's run over the prompts alone."""
        return self._checked("base", self.setup.base.capture(self._own))

    @cached_property
    def _forced_base(self) -> Activations:
        """The base's run with the answers as well."""
        return self._checked("base", forced_base(self.runner, self._own, self._tuned, self.layers))

    def _checked(self, side: Side, run: Activations) -> Activations:
        check_runs(self.setup.trigger, {(side, self.string): [run]})
        return run

    def _contrasts(self, base: Activations) -> tuple[Contrast, Contrast]:
        count, a, b, tuned = self.setup.decoys_a, self.clean_a, self.clean_b, self._tuned
        return (
            Contrast(first(tuned, count), a.clean, first(base, count), a.base_clean),
            Contrast(after(tuned, count), b.clean, after(base, count), b.base_clean),
        )


_OF_FIT: Final = ("layer", "effect_a", "measured_effect")


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
