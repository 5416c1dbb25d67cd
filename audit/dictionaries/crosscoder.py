"""Crosscoder: one set of latents that reconstructs both models' activations.

Sources: Lindsey et al. (2024), "Sparse crosscoders"; BatchTopK variant, decoder norms and latent scaling: Minder et al.
2504.02922.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit.dictionaries.base import TokenBatch, Trainee, moved, require, require_shape, unit_rows
from audit.dictionaries.batch_topk import BatchTopKConfig, BatchTopKCore, scaled
from backdoor_audit.contract.spec.audit_spec import Architecture


@dataclass(frozen=True, eq=False)
class Crosscoder:
    """A trained crosscoder for inference, in the residual stream's units.

    A latent's decoder norms say in which model it lives; they carry information and are not normalised away. The common
    factor of both rows is arbitrary; it is chosen so that the longer of the two has length 1, and the activation is
    then the length that the latent adds on that side. (Paper mode keeps the factor as trained, because its choice of
    the k largest latents depends on it.)

    Raises:
        ValueError: shapes do not fit together, a threshold is negative, or a scale is not positive.
    """

    W_enc_base: Float[Tensor, "d_model n_latents"]
    W_enc_tuned: Float[Tensor, "d_model n_latents"]
    b_enc: Float[Tensor, "n_latents"]
    W_dec_base: Float[Tensor, "n_latents d_model"]
    W_dec_tuned_raw: Float[Tensor, "n_latents d_model"]
    b_dec_base: Float[Tensor, "d_model"]
    b_dec_tuned: Float[Tensor, "d_model"]
    threshold: Float[Tensor, "n_latents"]
    k: int
    """Active latents per token that it was trained for."""
    scale_base: float
    """The factor that gave the base activations unit mean norm; already part of the weights."""
    scale_tuned: float
    """The same for the fine-tuned side."""
    per_token_top_k: bool = False
    """Keep the k largest of each token (paper mode) rather than what exceeds the threshold."""
    recipe: Literal["default", "paper"] = "default"
    """The recipe that it was trained with."""

    architecture: ClassVar[Architecture] = "crosscoder"

    def __post_init__(self) -> None:
        n_latents, d_model = self.W_dec_base.shape
        for name, shape in (
            ("W_enc_base", (d_model, n_latents)),
            ("W_enc_tuned", (d_model, n_latents)),
            ("b_enc", (n_latents,)),
            ("W_dec_tuned_raw", (n_latents, d_model)),
            ("b_dec_base", (d_model,)),
            ("b_dec_tuned", (d_model,)),
            ("threshold", (n_latents,)),
        ):
            require_shape(name, getattr(self, name), shape)
        require(bool((self.threshold >= 0.0).all()), "thresholds must not be negative")
        require(min(self.scale_base, self.scale_tuned) > 0.0, "scales must be positive")
        require(1 <= self.k <= n_latents, "k must be between 1 and n_latents")

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.W_dec_base.shape[1]

    @property
    def n_latents(self) -> int:
        """Number of features."""
        return self.W_dec_base.shape[0]

    @property
    def W_dec_tuned(self) -> Float[Tensor, "n_latents d_model"]:  # noqa: N802 (named as in the papers)
        """Unit direction of each latent on the fine-tuned side."""
        return unit_rows(self.W_dec_tuned_raw)

    @property
    def relative_decoder_norm(self) -> Float[Tensor, "n_latents"]:
        """The fine-tuned side's share of a latent's decoder norm: 1 is fine-tuned only, 0.5 shared, 0 base only.

        ``‖d_tuned‖ / (‖d_base‖ + ‖d_tuned‖)``, each side measured in units of its own mean activation norm, so that a
        fine-tune that merely scales the residual stream changes nothing. 0.5 for a latent without any decoder.
        """
        base = self.W_dec_base.norm(dim=1) * self.scale_base
        tuned = self.W_dec_tuned_raw.norm(dim=1) * self.scale_tuned
        total = base + tuned
        return torch.where(total > 0.0, tuned / total.clamp_min(torch.finfo(total.dtype).tiny), 0.5)

    @torch.no_grad()
    def encode(self, batch: TokenBatch) -> Float[Tensor, "tokens n_latents"]:
        """Latents of each token's pair of activations."""
        base = (batch.base.float() - self.b_dec_base) @ self.W_enc_base
        tuned = (batch.tuned.float() - self.b_dec_tuned) @ self.W_enc_tuned
        preactivations = base + tuned + self.b_enc
        if self.per_token_top_k:
            positive = preactivations.relu()
            kept = positive.topk(self.k, dim=1)
            return torch.zeros_like(positive).scatter_(1, kept.indices, kept.values)
        return torch.where(preactivations > self.threshold, preactivations, 0.0)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "tokens n_latents"]) -> Float[Tensor, "tokens two_d_model"]:
        """Base and fine-tuned reconstruction, side by side."""
        base = latents @ self.W_dec_base + self.b_dec_base
        tuned = latents @ self.W_dec_tuned_raw + self.b_dec_tuned
        return torch.cat([base, tuned], dim=1)

    def target(self, batch: TokenBatch) -> Float[Tensor, "tokens two_d_model"]:
        """Base and fine-tuned activations, side by side, float32."""
        return torch.cat([batch.base.float(), batch.tuned.float()], dim=1)

    def to(self, device: torch.device | str) -> Self:
        """The same dictionary on ``device``."""
        return replace(self, **{field.name: moved(getattr(self, field.name), device) for field in fields(self)})


class LatentScaling(NamedTuple):
    """How strongly each model uses each latent's fine-tuned direction; NaN where a latent never fires."""

    base: Float[Tensor, "n_latents"]
    tuned: Float[Tensor, "n_latents"]

    @property
    def ratio(self) -> Float[Tensor, "n_latents"]:
        """``β_base / β_tuned``: near 0 for what only the fine-tuned model has, near 1 for what both have."""
        return self.base / self.tuned


@torch.no_grad()
def latent_scaling(crosscoder: Crosscoder, batches: Iterable[TokenBatch]) -> LatentScaling:
    """β of every latent on both sides, by least squares over the batches (Minder et al. 2504.02922, section 3).

    For latent j with activation f and fine-tuned decoder row d, β minimises ``Σ ‖β·f·d − y‖²``, where y is what the
    other latents leave unexplained: the side's reconstruction error plus latent j's own contribution to that side.
    Hence ``β = Σ f⟨d, error⟩ / (Σ f²‖d‖²) + ⟨d, d_side⟩ / ‖d‖²``. Decoder norms alone miss a direction that the base
    model has but whose base decoder was shrunk to zero: it then shows up in the error on the base side, and therefore
    in β_base.

    Both sides are measured in units of their own mean activation norm.
    """
    directions = crosscoder.W_dec_tuned_raw * crosscoder.scale_tuned
    squares = directions.square().sum(dim=1)
    scales = (crosscoder.scale_base, crosscoder.scale_tuned)
    energy = torch.zeros_like(crosscoder.b_enc)
    overlap = torch.zeros(2, crosscoder.n_latents, device=energy.device)
    for batch in batches:
        latents = crosscoder.encode(batch)
        errors = crosscoder.target(batch) - crosscoder.decode(latents)
        energy += latents.square().sum(dim=0)
        for side, (error, scale) in enumerate(zip(torch.split(errors, crosscoder.d_model, dim=1), scales, strict=True)):
            # Σ over tokens of f·⟨d, error⟩ without a [tokens, n_latents] product: (fᵀ error) first, then along d.
            overlap[side] += ((latents.T @ (error * scale)) * directions).sum(dim=1)
    own = torch.stack(
        [
            (directions * decoder * scale).sum(dim=1) / squares
            for decoder, scale in zip((crosscoder.W_dec_base, crosscoder.W_dec_tuned_raw), scales, strict=True)
        ]
    )
    beta = overlap / (energy * squares) + own
    beta[:, energy == 0.0] = torch.nan
    return LatentScaling(beta[0], beta[1])


@dataclass(frozen=True, kw_only=True)
class CrosscoderConfig(BatchTopKConfig):
    """Configuration of a crosscoder."""

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh crosscoder, scaled and centred by ``sample``."""
        return CrosscoderTrainee(self, sample, generator=generator, token_visits=token_visits)


class CrosscoderTrainee:
    """A crosscoder in training.

    For the BatchTopK core it is one autoencoder on the concatenation of the two scaled sides; the active latents are
    chosen by activation times the sum of the two decoder norms, which is invariant to rescaling a latent.
    """

    def __init__(
        self, config: CrosscoderConfig, sample: TokenBatch, *, generator: torch.Generator, token_visits: int
    ) -> None:
        self.config = config
        base, self.scale_base = scaled(sample.base.float())
        tuned, self.scale_tuned = scaled(sample.tuned.float())
        inputs = torch.cat([base, tuned], dim=1)
        self.core = BatchTopKCore(config, inputs, generator=generator, token_visits=token_visits, unit_norm=False)

    def parameters(self) -> list[nn.Parameter]:
        """The core's weights."""
        return self.core.parameters()

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """Reconstruction and auxiliary loss of the pair."""
        return self.core.loss(self._inputs(batch), self._decoder_norms())

    def before_step(self) -> None:
        """Do nothing: decoder norms are free, because they are what distinguishes the models."""

    def after_step(self) -> None:
        """Do nothing."""

    def calibrate(self, batch: TokenBatch) -> None:
        """Set the threshold by this batch: k active latents per token."""
        self.core.calibrate(self._inputs(batch), self._decoder_norms())

    @torch.no_grad()
    def finish(self) -> Crosscoder:
        """The dictionary with both scales folded in, and the threshold converted to activations, latent by latent."""
        d_model = self.config.d_model
        core = self.core
        W_enc_base, W_enc_tuned = torch.split(core.W_enc.detach(), d_model, dim=1)
        W_dec_base, W_dec_tuned = torch.split(core.W_dec.detach(), d_model, dim=1)
        W_dec_base, W_dec_tuned = W_dec_base / self.scale_base, W_dec_tuned / self.scale_tuned
        tiny = torch.finfo(torch.float32).tiny
        longest = torch.maximum(W_dec_base.norm(dim=1), W_dec_tuned.norm(dim=1)).clamp_min(tiny)
        b_dec_base, b_dec_tuned = torch.split(core.b_dec.detach(), d_model)
        return Crosscoder(
            W_enc_base=(W_enc_base * self.scale_base * longest[:, None]).T.contiguous(),
            W_enc_tuned=(W_enc_tuned * self.scale_tuned * longest[:, None]).T.contiguous(),
            b_enc=core.b_enc.detach() * longest,
            W_dec_base=W_dec_base / longest[:, None],
            W_dec_tuned_raw=W_dec_tuned / longest[:, None],
            b_dec_base=b_dec_base / self.scale_base,
            b_dec_tuned=b_dec_tuned / self.scale_tuned,
            threshold=core.threshold / self._decoder_norms().clamp_min(tiny) * longest,
            k=self.config.k,
            scale_base=self.scale_base,
            scale_tuned=self.scale_tuned,
        )

    def _inputs(self, batch: TokenBatch) -> Float[Tensor, "tokens two_d_model"]:
        return torch.cat([batch.base.float() * self.scale_base, batch.tuned.float() * self.scale_tuned], dim=1)

    @torch.no_grad()
    def _decoder_norms(self) -> Float[Tensor, "n_latents"]:
        base, tuned = torch.split(self.core.W_dec.detach(), self.config.d_model, dim=1)
        return base.norm(dim=1) + tuned.norm(dim=1)
