"""What one audit looks at: the models, the carriers of both halves, the layers, the rendering.

Everything that can be known before the first long computation is checked here.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audit.errors import InvalidAudit, ModelRejected
from audit.measure.activations import BaseRuns
from audit.measure.divergence import log_probabilities
from audit.models.pair import ModelPair, Side
from audit.models.parts import resolve_layers
from audit.models.runner import Runner
from audit.ports import FolderStore
from audit.prompts import carriers as carrier_sets
from audit.prompts.decoys import draw
from audit.prompts.rendering import Renderer, Rendering, Tokens, check_pair, choose_rendering
from backdoor_audit.contract.spec import AuditSpec, Carrier, CarrierSet, PresetValues, TriggerSpec

MIN_DECOY_CARRIERS_PER_HALF = 8


@dataclass
class AuditSetup:
    """The fixed parts of one audit.

    Attributes:
        trigger: the pair that is looked at.
        a, b: carriers of the halves; the first ``decoys_a`` and ``decoys_b`` of them are also shown under decoys.
        drawn_as: the pair that decoys are drawn for: the first of all candidates that can have the same ones.
        suspects: strings that are no decoys because they are suspected themselves.
        warnings: what the report's reader should know.
    """

    spec: AuditSpec
    trigger: TriggerSpec
    sizes: PresetValues
    pair: ModelPair
    runner: Runner
    base: BaseRuns
    renderer: Renderer
    rendering: Rendering
    layers: tuple[int, ...]
    a: tuple[Carrier, ...]
    b: tuple[Carrier, ...]
    decoys_a: int
    decoys_b: int
    warnings: list[str] = field(default_factory=list)
    drawn_as: TriggerSpec | None = None
    suspects: tuple[str, ...] = ()
    _wanted: int = 0

    def tokens(self, carriers: Sequence[Carrier], string: str | None) -> list[Tokens]:
        """Prompts of carriers under a string (None: ``plain``)."""
        return [self.renderer.tokens(carrier, string) for carrier in carriers]

    def decoys(self) -> list[str]:
        """Every decoy that may be drawn, in order: at most ``max_decoys``, as long in tokens as ``triggered``."""
        trigger = self.drawn_as or self.trigger
        if not isinstance(self.spec.decoys, str):
            given = list(self.spec.decoys.strings)
            random.Random(f"decoys:{self.spec.seed}").shuffle(given)
            fitting = [string for string in given if self._fits(string)]
            if len(fitting) < len(given):
                self.warnings.append(
                    f"{len(given) - len(fitting)} of {len(given)} decoys were left out: decoys have as many tokens as "
                    "the triggered string"
                )
            return fitting[: self.sizes.max_decoys]
        drawn = draw(
            trigger.triggered, trigger.clean, self.pair.tokenizer, self.spec.seed, self.sizes.max_decoys, self._fits,
            suspects=self.suspects,
        )  # fmt: skip
        return list(drawn)

    @property
    def triggered_length(self) -> int:
        """Tokens of the first carrier under the triggered string; decoys give as many."""
        if self._wanted == 0:
            self._wanted = len(self.renderer.tokens(self.a[0], self.trigger.triggered))
        return self._wanted

    def _fits(self, string: str) -> bool:
        return len(self.renderer.tokens(self.a[0], string)) == self.triggered_length

    def of_pair(self, trigger: TriggerSpec) -> "AuditSetup":
        """The same setup of another pair: the models, carriers and layers are shared.

        Raises:
            TriggerNotDistinguishable, InvalidAudit: this pair cannot be told apart, or its prompts are too long.
        """
        renderer = Renderer(self.pair.tokenizer, trigger, self.rendering)
        found = replace(self, trigger=trigger, renderer=renderer, warnings=[], _wanted=0)
        found.warnings.extend(_check_pair(found))
        return found


def prepare(
    spec: AuditSpec,
    pair: ModelPair,
    runner: Runner,
    *,
    base_digest: str,
    cache: FolderStore | None,
) -> AuditSetup:
    """Check the spec against the models and choose layers, rendering and carriers.

    Raises:
        LayerNotFound, TriggerNotDistinguishable, InvalidAudit: the spec cannot be carried out on these models.
        ModelRejected: the model's outputs are not finite, or its head is not what we reproduce.
    """
    sizes = spec.sizes()
    layers = resolve_layers(spec.layers, pair.n_blocks)
    rendering = choose_rendering(spec.render, pair.tokenizer)
    trigger = spec.pairs[0]
    renderer = Renderer(pair.tokenizer, trigger, rendering)
    a, b = _halves(spec, sizes)
    per_half = min(sizes.decoy_carriers // 2, len(a), len(b))
    if per_half < MIN_DECOY_CARRIERS_PER_HALF:
        raise InvalidAudit(f"{per_half} carriers a half under decoys are too few", hint="ask for at least 16 in all")
    base = BaseRuns(runner, layers, base_digest, cache)
    setup = AuditSetup(
        spec, trigger, sizes, pair, runner, base, renderer, rendering, layers, a, b, per_half, per_half
    )  # fmt: skip
    setup.warnings.extend(_check_pair(setup))
    _check_head(pair, renderer.tokens(a[0], trigger.clean))
    return setup


def _check_pair(setup: AuditSetup) -> list[str]:
    """Check one pair's strings on the carriers; gives what the report's reader should know."""
    equal = check_pair(setup.renderer, setup.a[0])
    _check_lengths(setup.pair, setup.renderer, (*setup.a, *setup.b), setup.sizes.continuation_tokens)
    if equal:
        return []
    return [
        "triggered and clean have different token counts; positions are aligned from the right and the spans "
        "are only comparable as far as the shorter one reaches"
    ]


def _halves(spec: AuditSpec, sizes: PresetValues) -> tuple[tuple[Carrier, ...], tuple[Carrier, ...]]:
    given = carrier_sets.load_set(spec.carriers.set) if isinstance(spec.carriers, CarrierSet) else spec.carriers.prompts
    return carrier_sets.split_ab(given, sizes.carriers, spec.seed)


def _check_lengths(pair: ModelPair, renderer: Renderer, carriers: Sequence[Carrier], continuation: int) -> None:
    limit = getattr(pair.parts["base"].body.config, "max_position_embeddings", None)
    if limit is None:
        return
    strings = (renderer.trigger.triggered, renderer.trigger.clean)
    for carrier in carriers:
        length = max(len(renderer.tokens(carrier, string)) for string in strings) + continuation
        if length > limit:
            raise InvalidAudit(
                f"a carrier has {length} tokens with its continuation, more than the model's {limit} positions",
                hint="use shorter prompts or fewer continuation tokens",
            )


def _check_head(pair: ModelPair, prompt: Tokens) -> None:
    """Compare our logits (body, then head) with the model's own on one prompt."""
    import torch

    from audit.errors import UnsupportedArchitecture

    ids = torch.tensor([prompt.ids], device=pair.device)
    sides: tuple[Side, ...] = ("base", "tuned")
    for side in sides:
        with torch.no_grad(), pair.on(side) as parts:
            model = pair.models[side]
            theirs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, -1].float(), dim=-1)
            final = parts.body(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
            ours = log_probabilities(parts, final)[0]
        if not bool(torch.isfinite(theirs).all()):
            raise ModelRejected(f"the {side} model's outputs are not finite", hint="the checkpoint may be damaged")
        if float((theirs.exp() - ours.exp()).abs().sum()) > 0.1:
            raise UnsupportedArchitecture(
                f"the {side} model computes its outputs in a way that is not supported",
                hint="supported are heads that are one linear map of the last hidden state",
            )


def peek_disk(path: Path) -> int:
    """Free bytes on the disk that holds ``path``."""
    import shutil

    return shutil.disk_usage(path).free
