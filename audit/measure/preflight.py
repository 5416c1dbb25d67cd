"""The inputs of one audit: the loaded models, the carriers of both halves, the layers, the rendering.

Everything that can be checked before the first long computation is checked here.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch

from audit.errors import InvalidAudit, ModelRejected, NoSpace, UnsupportedArchitecture
from audit.measure.activations import BaseRuns
from audit.measure.divergence import log_probabilities
from audit.measure.templates import ChosenTemplates, choose_templates, prompt_settings
from audit.models.pair import ModelPair, Side
from audit.models.parts import resolve_layers
from audit.models.runner import Runner
from audit.plan import AuditPlan, plan_audit, too_few
from audit.ports import FolderStore
from audit.prompts.rendering import Renderer, Rendering, Tokens, check_pair
from backdoor_audit.contract.report.prompt_settings import PromptSettings
from backdoor_audit.contract.spec.audit_spec import AuditSpec, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.presets import PresetValues

_SUPPORTED_HEAD_DIFFERENCE: Final = 0.1
"""Largest Σ|p − q| between the model's own next-token distribution and the one computed here from its parts."""
_DISK_MARGIN: Final = 1.5


@dataclass
class AuditSetup:
    """A plan with its models loaded, for one pair of strings.

    Attributes:
        trigger: the pair that is tested.
        renderer, base_renderer: what renders the prompts of the fine-tuned model, and the base's.
        templates: the chat templates that they use.
        prompt_settings: what the report says of templates, special tokens and generation settings.
        drawn_as: the pair that decoys are drawn for: the first of all candidates that can share them.
        warnings: what the report's reader should know.
    """

    plan: AuditPlan
    trigger: TriggerSpec
    pair: ModelPair
    runner: Runner
    base: BaseRuns
    renderer: Renderer
    base_renderer: Renderer
    templates: ChosenTemplates
    prompt_settings: PromptSettings
    layers: tuple[int, ...]
    warnings: list[str] = field(default_factory=list)
    drawn_as: TriggerSpec | None = None
    _decoys: list[str] | None = None
    _length: int = 0

    @property
    def spec(self) -> AuditSpec:
        """The spec of the audit."""
        return self.plan.spec

    @property
    def rendering(self) -> Rendering:
        """Whether prompts are rendered with chat templates."""
        return self.templates.rendering

    @property
    def sizes(self) -> PresetValues:
        """The preset with the spec's overrides."""
        return self.plan.sizes

    @property
    def a(self) -> tuple[Carrier, ...]:
        """Carriers of the discovery half."""
        return self.plan.a

    @property
    def b(self) -> tuple[Carrier, ...]:
        """Carriers of the confirming half."""
        return self.plan.b

    @property
    def decoys_a(self) -> int:
        """How many of the first carriers of A are also shown with decoys."""
        return self.plan.decoy_carriers

    @property
    def decoys_b(self) -> int:
        """How many of the first carriers of B are also shown with decoys."""
        return self.plan.decoy_carriers

    def tokens(self, carriers: Sequence[Carrier], string: str | None, side: Side = "tuned") -> list[Tokens]:
        """Prompts of carriers under a string (None: the ``plain`` condition), as one of the models reads them."""
        renderer = self.renderer if side == "tuned" else self.base_renderer
        return [renderer.tokens(carrier, string) for carrier in carriers]

    def decoys(self) -> list[str]:
        """Every decoy that may be shown, in order: at most ``max_decoys``."""
        if self._decoys is not None:
            return self._decoys
        decoys = self.plan.decoys(self.pair.tokenizer, self._fits, self.drawn_as or self.trigger)
        if decoys.of_other_length:
            self.warnings.append(
                f"{decoys.of_other_length} of {len(decoys.strings)} decoys have another number of tokens than the "
                "triggered string; positions are aligned from the right"
            )
        if few := too_few(len(decoys.strings), self.sizes.max_decoys):
            self.warnings.append(few)
        self._decoys = list(decoys.strings)
        return self._decoys

    @property
    def triggered_length(self) -> int:
        """Tokens of the first carrier under the triggered string; decoys have as many.

        In the base's prompts: the fine-tuned model's template may write more where it reads the string.
        """
        if self._length == 0:
            self._length = len(self.base_renderer.tokens(self.a[0], self.trigger.triggered))
        return self._length

    def _fits(self, string: str) -> bool:
        return len(self.base_renderer.tokens(self.a[0], string)) == self.triggered_length

    def of_pair(self, trigger: TriggerSpec) -> "AuditSetup":
        """The same setup for another pair: models, carriers and layers are shared.

        Raises:
            TriggerNotDistinguishable, InvalidAudit: this pair's strings give the same tokens, or prompts are too long.
        """
        base, tuned = renderers(self.pair, trigger, self.templates)
        other = replace(self, trigger=trigger, renderer=tuned, base_renderer=base, warnings=[], _length=0, _decoys=None)
        other.warnings.extend(_check_pair(other))
        return other


def prepare(
    spec: AuditSpec, pair: ModelPair, runner: Runner, *, base_digest: str, cache: FolderStore | None
) -> AuditSetup:
    """Check the spec against the models and choose layers, rendering and carriers.

    Raises:
        LayerNotFound, TriggerNotDistinguishable, InvalidAudit: the spec cannot be carried out on these models.
        ModelRejected: a model's outputs are not finite.
        UnsupportedArchitecture: a model's head is more than one linear map.
    """
    plan = plan_audit(spec)
    layers = resolve_layers(spec.layers, pair.n_blocks)
    templates = choose_templates(plan, pair)
    settings = prompt_settings(plan, pair, templates)
    trigger = spec.pairs[0]
    base_renderer, renderer = renderers(pair, trigger, templates)
    base = BaseRuns(runner, layers, base_digest, cache)
    setup = AuditSetup(plan, trigger, pair, runner, base, renderer, base_renderer, templates, settings, layers)
    setup.warnings.extend(_check_vocabulary(pair, setup))
    setup.warnings.extend(_check_pair(setup))
    _check_head(pair, renderer.tokens(plan.a[0], trigger.clean))
    return setup


def renderers(pair: ModelPair, trigger: TriggerSpec, templates: ChosenTemplates) -> tuple[Renderer, Renderer]:
    """What renders the base's prompts and the fine-tuned model's; one for both where they read the same."""
    base = Renderer(pair.tokenizer, trigger, templates.rendering, templates.base)
    if templates.prompts != "own":
        return base, base
    return base, Renderer(pair.tokenizer, trigger, templates.rendering, templates.tuned)


def check_disk(folder: Path, needed: int) -> None:
    """Refuse to start if the disk that holds ``folder`` has fewer than ``needed`` free bytes.

    Raises:
        NoSpace: it has fewer.
    """
    free = free_bytes(folder)
    if free < needed:
        raise NoSpace(
            f"the audit may need {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free",
            hint="free some disk space, or submit a smaller preset (--preset quick) or fewer layers (--layers)",
        )


def disk_bytes(setup: AuditSetup, sequences: int) -> int:
    """Bytes that the activations of this many sequences may take, with a margin of one half."""
    pair = setup.pair
    width = pair.d_model * (2 if pair.precision == "bfloat16" else 4) * len(setup.layers)
    carriers = (*setup.a, *setup.b)
    tokens = sum(len(prompt) + setup.sizes.continuation_tokens for prompt in setup.tokens(carriers, None))
    return int(_DISK_MARGIN * 2 * width * (tokens / len(carriers)) * sequences)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds ``path``."""
    return shutil.disk_usage(path).free


def _check_vocabulary(pair: ModelPair, setup: AuditSetup) -> list[str]:
    """Check that both models read the same tokens; returns warnings for the report."""
    notes = []
    if pair.tokenizers is not None and pair.tokenizers.differences:
        strings = [string for trigger in setup.spec.pairs for string in (trigger.triggered, trigger.clean)]
        carriers = (*setup.a, *setup.b)
        texts = [carrier.prompt for carrier in carriers if carrier.prompt is not None]
        texts += [message.content for carrier in carriers for message in carrier.messages or ()]
        pair.tokenizers.check((*strings, *texts))
        notes.append(
            f"the fine-tuned model's tokenizer differs from the base's in {', '.join(pair.tokenizers.differences)}; it "
            "gives the same tokens for the audit's strings and prompts, and the base's was used"
        )
    if pair.config_differences:
        notes.append(
            "the models' config.json differ in settings that change what they compute, and each was run with its own: "
            f"{'; '.join(pair.config_differences)}"
        )
    if pair.rows is not None:
        notes.append(
            f"the models' vocabularies have different sizes; the {pair.rows} rows that both have were compared"
        )
    return notes


def _check_pair(setup: AuditSetup) -> list[str]:
    """Check one pair's strings on the carriers; returns warnings for the report."""
    equal = check_pair(setup.renderer, setup.a[0])
    _check_lengths(setup)
    if equal:
        return []
    return [
        "triggered and clean have different token counts; positions are aligned from the right and the spans "
        "are only comparable as far as the shorter one reaches"
    ]


def _check_lengths(setup: AuditSetup) -> None:
    limit = getattr(setup.pair.parts["base"].body.config, "max_position_embeddings", None)
    if limit is None:
        return
    continuation = setup.sizes.continuation_tokens
    strings = (setup.trigger.triggered, setup.trigger.clean)
    both = dict.fromkeys((setup.renderer, setup.base_renderer))
    for carrier in (*setup.a, *setup.b):
        length = max(len(one.tokens(carrier, string)) for one in both for string in strings) + continuation
        if length > limit:
            raise InvalidAudit(
                f"a carrier has {length} tokens with its continuation, more than the model's {limit} positions",
                hint="use shorter prompts, or set overrides.continuation_tokens lower",
            )


def _check_head(pair: ModelPair, prompt: Tokens) -> None:
    """Compare the logits computed here (body, then head) with the model's own on one prompt."""
    ids = torch.tensor([prompt.ids], device=pair.device)
    sides: tuple[Side, ...] = ("base", "tuned")
    for side in sides:
        with torch.no_grad(), pair.on(side) as parts:
            model = pair.models[side]
            theirs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, -1].float(), dim=-1)
            final = parts.body(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
            ours = log_probabilities(parts, final)[0]
        if not bool(torch.isfinite(theirs).all()):
            raise ModelRejected(
                f"the {side} model's outputs are infinite or NaN",
                hint="the checkpoint may be damaged: save it again, or audit it with --dtype float32",
            )
        if float((theirs.exp() - ours.exp()).abs().sum()) > _SUPPORTED_HEAD_DIFFERENCE:
            raise UnsupportedArchitecture(
                f"the {side} model computes its outputs in a way that is not supported",
                hint="supported are heads that are one linear map of the last hidden state",
            )
