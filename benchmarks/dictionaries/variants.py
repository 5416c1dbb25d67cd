"""The variants of dictionaries that ``benchmarks.dictionaries`` compares: what each one sees and how it is trained."""

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries.base import Dictionary, DictionaryConfig, TokenBatch, Trainee, unit_rows
from audit.dictionaries.batch_topk import BatchTopKCore
from audit.dictionaries.crosscoder import Crosscoder, CrosscoderConfig, CrosscoderTrainee
from audit.dictionaries.diff_sae import DiffSAE, DiffSAEConfig
from audit.dictionaries.quality import measure
from audit.dictionaries.sources import TensorSource
from audit.dictionaries.training import TrainSettings, train
from audit.explain.training import Trained, training_source
from audit.measure.contrast import Directions
from audit.measure.extraction import CONDITIONS, Extraction
from audit.models.layout import Layout
from backdoor_audit.contract.spec.audit_spec import Architecture


@dataclass(frozen=True)
class Variant:
    """One way to train a dictionary.

    Attributes:
        inputs: which activations it sees: ``span``, ``centred`` (the span, Δ minus its mean over the strings at the
            same carrier and position), ``all`` (all prompt tokens except the first).
        subspace: show Δ within the attribution subspace of this rank only.
        gradient_ridge: weight the reconstruction loss by the gradients' covariance plus this multiple of the identity.
        delta_weight: crosscoder: weight of the loss on the reconstructed difference.
    """

    width: int = 2
    k: int = 32
    inputs: str = "span"
    subspace: int | None = None
    gradient_ridge: float | None = None
    crosscoder: bool = False
    delta_weight: float = 0.0


VARIANTS: Final[dict[str, Variant]] = {
    "plain": Variant(),
    "all tokens": Variant(inputs="all"),
    "centred": Variant(inputs="centred"),
    "attribution subspace of 16": Variant(subspace=16),
    "gradient-weighted, ridge 0.1": Variant(gradient_ridge=0.1),
    "crosscoder": Variant(crosscoder=True),
    "crosscoder, difference loss 10": Variant(crosscoder=True, delta_weight=10.0),
    "k 8": Variant(k=8),
    "width 4": Variant(width=4),
    "k 16": Variant(k=16),
    "k 64": Variant(k=64),
    "width 1": Variant(width=1),
    "width 8": Variant(width=8),
    "attribution subspace of 64": Variant(subspace=64),
    "gradient-weighted, ridge 0.001": Variant(gradient_ridge=0.001),
    "crosscoder, difference loss 1": Variant(crosscoder=True, delta_weight=1.0),
}


@dataclass(frozen=True)
class Scene:
    """One organism, extracted.

    Attributes:
        layer: where dictionaries are trained.
        whole: what the directions recover there on B's decoy carriers.
    """

    extraction: Extraction
    directions: Directions
    layer: int
    whole: float
    gradient_b: Float[Tensor, "span d_model"]


def source_of(scene: Scene, variant: Variant) -> TensorSource:
    """What a variant sees."""
    plain = training_source(scene.extraction, scene.layer)
    if variant.inputs == "all":
        return _with_what_stands_before(scene, plain)
    if variant.inputs == "centred":
        return _of_differences(plain, plain.tuned.float() - plain.base.float() - centres(scene, plain))
    if variant.subspace is not None:
        basis = attribution_subspace(scene, variant.subspace)
        return _of_differences(plain, (plain.tuned.float() - plain.base.float()) @ basis @ basis.T)
    if variant.gradient_ridge is not None:
        into, _ = gradient_metric(scene, variant.gradient_ridge)
        return _of_differences(plain, (plain.tuned.float() - plain.base.float()) @ into)
    return plain


def _of_differences(plain: TensorSource, differences: Float[Tensor, "tokens d_model"]) -> TensorSource:
    return TensorSource(torch.zeros_like(differences), differences, plain.groups)


def _with_what_stands_before(scene: Scene, plain: TensorSource) -> TensorSource:
    """All prompt tokens except the first; what precedes the string is the same under every string."""
    tuned, base = (runs["clean", "a"] for runs in (scene.extraction.tuned, scene.extraction.base))
    before_base, before_tuned = (run.hidden[scene.layer][_before(run.layout)] for run in (base, tuned))
    n_strings = int(plain.groups.max()) + 1
    return TensorSource(
        torch.cat([plain.base, *[before_base] * n_strings]),
        torch.cat([plain.tuned, *[before_tuned] * n_strings]),
        torch.cat([plain.groups, torch.arange(n_strings).repeat_interleave(len(before_base))]),
    )


def _before(layout: Layout) -> list[int]:
    """Rows before the string, without the first of each sequence."""
    return [
        row for index in range(len(layout)) for row in range(layout.starts[index] + 1, layout.span_rows(index).start)
    ]


def centres(scene: Scene, plain: TensorSource) -> Float[Tensor, "tokens d_model"]:
    """Mean Δ over the strings, at the same carrier and the same position counted from the prompt's end."""
    extraction, layer = scene.extraction, scene.layer
    spans = [extraction.span(condition, "a", layer) for condition in CONDITIONS]
    spans += [extraction.decoy_tokens(index).span("a", layer) for index in range(len(extraction.decoys))]
    carrier = torch.cat([span.carrier for span in spans])
    from_end = torch.cat([_from_end(span.carrier) for span in spans])
    keys = carrier * (int(from_end.max()) + 1) + from_end
    _, groups = torch.unique(keys, return_inverse=True)
    delta = plain.tuned.float() - plain.base.float()
    sums = torch.zeros(int(groups.max()) + 1, delta.shape[1]).index_add_(0, groups, delta)
    return (sums / torch.bincount(groups).unsqueeze(1))[groups]


def _from_end(carrier: Tensor) -> Tensor:
    """How many tokens of the same carrier follow each token."""
    counts = torch.bincount(carrier)
    ends = counts.cumsum(0)[carrier]
    return ends - 1 - torch.arange(len(carrier))


def attribution_subspace(scene: Scene, rank: int) -> Float[Tensor, "d_model rank"]:
    """Eigenvectors of the symmetrised Σ DiD·gradientᵀ on A with the largest absolute eigenvalues."""
    did = scene.extraction.contrast("a").did(scene.layer)
    product = did.T @ scene.directions.gradient[scene.layer]
    values, vectors = torch.linalg.eigh((product + product.T) / 2)
    return vectors[:, values.abs().topk(rank).indices]


def gradient_metric(
    scene: Scene, ridge: float
) -> tuple[Float[Tensor, "d_model d_model"], Float[Tensor, "d_model d_model"]]:
    """C^½ and C^-½ of the gradients' second moment over the span on A, of mean eigenvalue 1, plus a ridge."""
    gradient = scene.directions.gradient[scene.layer]
    moment = gradient.T @ gradient
    moment = moment / moment.trace() * len(moment) + ridge * torch.eye(len(moment))
    values, vectors = torch.linalg.eigh(moment.double())
    values = values.clamp_min(ridge / 2)
    return (
        (vectors * values.sqrt() @ vectors.T).float(),
        (vectors / values.sqrt() @ vectors.T).float(),
    )


def config_of(scene: Scene, variant: Variant) -> DictionaryConfig:
    """The configuration that a variant is trained with."""
    pair = scene.extraction.setup.pair
    shape: dict[str, Any] = {"d_model": pair.d_model, "n_latents": variant.width * pair.d_model, "k": variant.k}
    quick = pair.precision == "bfloat16"
    if variant.crosscoder:
        return DifferenceCrosscoderConfig(**shape, bfloat16_selection=quick, delta_weight=variant.delta_weight)
    return DiffSAEConfig(**shape, bfloat16_selection=quick)


@dataclass(frozen=True, kw_only=True)
class DifferenceCrosscoderConfig(CrosscoderConfig):
    """A crosscoder with an additional loss on the reconstructed difference of the two scaled sides, weighted by
    ``delta_weight``.
    """

    delta_weight: float

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh crosscoder."""
        return _DifferenceTrainee(self, sample, generator=generator, token_visits=token_visits)


class _DifferenceTrainee(CrosscoderTrainee):
    """Trains on stretched inputs: ‖r‖² there is ‖r‖² + weight·‖r_tuned − r_base‖² of the plain residual."""

    def __init__(
        self, config: DifferenceCrosscoderConfig, sample: TokenBatch, *, generator: torch.Generator, token_visits: int
    ) -> None:
        super().__init__(config, sample, generator=generator, token_visits=token_visits)
        self._stretch = (1.0 + 2.0 * config.delta_weight) ** 0.5
        self._norms: Tensor | None = None
        self.core = BatchTopKCore(
            config, self._inputs(sample), generator=generator, token_visits=token_visits, unit_norm=False
        )

    def finish(self) -> Crosscoder:
        """The crosscoder with the stretching folded in."""
        self._norms = super()._decoder_norms()
        with torch.no_grad():
            self.core.W_enc.data = stretched(self.core.W_enc, self._stretch)
            self.core.W_dec.data = stretched(self.core.W_dec, 1.0 / self._stretch)
            self.core.b_dec.data = stretched(self.core.b_dec, 1.0 / self._stretch)
        return super().finish()

    def _inputs(self, batch: TokenBatch) -> Float[Tensor, "tokens two_d_model"]:
        return stretched(super()._inputs(batch), self._stretch)

    def _decoder_norms(self) -> Float[Tensor, "n_latents"]:
        return super()._decoder_norms() if self._norms is None else self._norms


def stretched(pairs: Float[Tensor, "*rows two_d_model"], factor: float) -> Float[Tensor, "*rows two_d_model"]:
    """Both sides with their difference scaled by ``factor`` and their mean unchanged."""
    base, tuned = pairs.chunk(2, dim=-1)
    mean, half = (base + tuned) / 2, factor * (tuned - base) / 2
    return torch.cat([mean - half, mean + half], dim=-1)


def out_of_metric(dictionary: DiffSAE, into: Tensor, back: Tensor) -> DiffSAE:
    """Convert a Diff-SAE of transformed differences to one of plain differences, with unit-norm rows."""
    rows = dictionary.W_dec @ back
    norms = rows.norm(dim=1)
    return replace(
        dictionary,
        W_enc=(into @ dictionary.W_enc) * norms,
        b_enc=dictionary.b_enc * norms,
        W_dec=unit_rows(rows),
        b_dec=dictionary.b_dec @ back,
        threshold=dictionary.threshold * norms,
    )


def train_variant(scene: Scene, variant: Variant, seed: int) -> tuple[Trained, float]:
    """Train one dictionary on one core, as an audit does; also returns the seconds that it took."""
    source = source_of(scene, variant)
    settings = TrainSettings(token_visits=scene.extraction.setup.sizes.token_visits, seed=seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        dictionary, summary = train(config_of(scene, variant), source, settings)
        seconds = time.process_time() - start
    finally:
        torch.set_num_threads(threads)
    if variant.gradient_ridge is not None:
        assert isinstance(dictionary, DiffSAE)
        dictionary = out_of_metric(dictionary, *gradient_metric(scene, variant.gradient_ridge))
    architecture: Architecture = "crosscoder" if variant.crosscoder else "diff_sae"
    return Trained(dictionary, scene.layer, architecture, seed, variant.k, summary.quality), seconds


def explained_difference(scene: Scene, variant: Variant, dictionary: Dictionary) -> tuple[float, float, float]:
    """On the span: share of Δ's variance explained, dead share, active latents per token."""
    plain = training_source(scene.extraction, scene.layer)
    if variant.inputs == "centred":
        plain = _of_differences(plain, plain.tuned.float() - plain.base.float() - centres(scene, plain))
    if not variant.crosscoder:
        quality = measure(dictionary, plain, torch.arange(plain.n_tokens))
        return quality.fve, quality.dead_share, quality.l0
    delta = plain.tuned.float() - plain.base.float()
    deviation = float((delta - delta.mean(0)).square().sum())
    missed, fired, active = 0.0, torch.zeros(dictionary.n_latents, dtype=torch.bool), 0
    for part in torch.split(torch.arange(plain.n_tokens), 2048):
        latents = dictionary.encode(plain.batch(part))
        base, tuned = dictionary.decode(latents).chunk(2, dim=1)
        missed += float((delta[part] - (tuned - base)).square().sum())
        fired |= (latents > 0).any(0)
        active += int((latents > 0).sum())
    return 1.0 - missed / deviation, float((~fired).float().mean()), active / plain.n_tokens
