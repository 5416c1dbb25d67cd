"""τ: the causal effect that an audit would report if only the shape of the batches differed.

The base runs over the clean prompts twice, in batches of two shapes. The processor then adds in another order, so the
outputs differ in their last bits. T is then measured between these two runs as it is between two strings: directions
and layer from half A, the effect of ablating on half B. A T below that size is rounding
(docs/decisions/0020-one-noise-for-all-scores.md).
"""

import hashlib
import json
from typing import Final

import torch

from audit.measure.activations import after, first
from audit.measure.contrast import Contrast, effects, fit_directions
from audit.measure.preflight import AuditSetup
from audit.models.pair import ModelPair
from audit.models.runner import Runner
from audit.ports import FolderStore
from audit.prompts.rendering import Tokens

# Increased whenever the result would change, so that an old value is never mistaken for a new one.
NOISE_VERSION: Final = "2"
SMALLEST: Final = 1e-6
"""Nats. The accuracy of a sum of float32 divergences; τ if both shapes agree to the last bit."""
_NAME: Final = "noise"
_FILE: Final = "noise.json"


def numeric_noise(
    setup: AuditSetup, store: FolderStore, *, base_digest: str = "", cache: FolderStore | None = None
) -> float:
    """τ in nats per carrier, above zero; with a cache, measured once per base, carriers and clean string.

    Args:
        setup: the models, the carriers and the pair.
        store: the audit's folder, in which a second attempt finds what the first one measured.
        base_digest: the base's content digest; the cache is used only if it is given.
        cache: shared between audits.
    """
    prompts = setup.tokens((*setup.a[: setup.decoys_a], *setup.b[: setup.decoys_b]), setup.trigger.clean, "base")
    shared = cache is not None and bool(base_digest)
    copies = [(store, _NAME)]
    if cache is not None and shared:
        copies.append((cache, _key(setup, prompts, base_digest)))
    for folders, name in copies:
        existing = folders.find(name)
        if existing is not None:
            return float(json.loads((existing / _FILE).read_text(encoding="utf-8"))["noise_nats"])
    noise = _measure(setup, prompts)
    for folders, name in copies:
        with folders.create(name) as folder:
            (folder / _FILE).write_text(json.dumps({"noise_nats": noise}), encoding="utf-8")
    return noise


def _measure(setup: AuditSetup, prompts: list[Tokens]) -> float:
    with setup.pair.on("base"):
        pair = _base_alone(setup.pair)
        ours = Runner(pair, budget=setup.runner.budget, tick=setup.runner.tick)
        texts = ours.greedy(prompts, setup.sizes.continuation_tokens, side="base")
        sequences = [prompt.continued(text) for prompt, text in zip(prompts, texts, strict=True)]
        other = Runner(pair, budget=_other_budget(sequences, ours.budget), tick=setup.runner.tick)
        one, two = (runner.capture(sequences, "tuned", setup.layers) for runner in (ours, other))
        bare = [prompt.prompt() for prompt in prompts]
        bare_one, bare_two = (runner.capture(bare, "base", setup.layers) for runner in (ours, other))
        count = setup.decoys_a
        on_a = Contrast(first(two, count), first(one, count), first(bare_two, count), first(bare_one, count))
        on_b = Contrast(after(two, count), after(one, count), after(bare_two, count), after(bare_one, count))
        directions = fit_directions(ours, on_a, setup.layers)
        leading = directions.basis[directions.layer][:, :1]
        noise = abs(effects(ours, on_b, directions.layer, [leading]).nats())
    return max(noise, SMALLEST)


def _base_alone(pair: ModelPair) -> ModelPair:
    """The base on both sides; to be used while the base is the side that runs."""
    model, parts = pair.models["base"], pair.parts["base"]
    return ModelPair(
        "full", {"base": model, "tuned": model}, {"base": parts, "tuned": parts}, pair.tokenizer, pair.precision,
        pair.device,
    )  # fmt: skip


def _other_budget(sequences: list[Tokens], budget: int) -> int:
    """Padded tokens per batch that give batches of about half the size, whether they are limited by the budget or by
    the work.
    """
    longest = max(map(len, sequences))
    return max(longest, min(budget, len(sequences) * longest) // 2)


def _key(setup: AuditSetup, prompts: list[Tokens], base_digest: str) -> str:
    """Everything that τ depends on: weights, tokens, layers, dtype, device, batches and this code."""
    pair = setup.pair
    digest = hashlib.sha256()
    fixed = (NOISE_VERSION, torch.__version__, base_digest, pair.precision, pair.device.type)
    sizes = (setup.runner.budget, setup.sizes.continuation_tokens, setup.decoys_a, *setup.layers)
    digest.update(json.dumps([*fixed, *sizes]).encode())
    for prompt in prompts:
        digest.update(json.dumps([list(prompt.ids), prompt.span_start]).encode())
    return f"noise-{digest.hexdigest()}"
