"""Diff-SAE: a BatchTopK autoencoder on the difference of the two models' activations."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit.dictionaries.base import TokenBatch, Trainee, moved, require, require_shape, unit_rows
from audit.dictionaries.batch_topk import BatchTopKConfig, BatchTopKCore, scaled
from backdoor_audit.contract.spec.audit_spec import Architecture


@dataclass(frozen=True, eq=False)
class DiffSAE:
    """A trained Diff-SAE for inference, in the residual stream's units.

    Scaling all weights that carry a unit does not change what a JumpReLU autoencoder computes, so the input scale of
    training is already folded in: a latent's activation is the length that it adds to Δ along its unit decoder row.

    Raises:
        ValueError: shapes do not fit together, decoder rows are not of unit norm, or a threshold is negative.
    """

    W_enc: Float[Tensor, "d_model n_latents"]
    b_enc: Float[Tensor, "n_latents"]
    W_dec: Float[Tensor, "n_latents d_model"]
    b_dec: Float[Tensor, "d_model"]
    threshold: Float[Tensor, "n_latents"]
    k: int
    """Active latents per token that it was trained for."""
    input_scale: float
    """The factor that gave Δ unit mean norm in training; kept as a record, already part of the weights."""
    recipe: Literal["default", "paper"] = "default"
    """The recipe that it was trained with."""

    architecture: ClassVar[Architecture] = "diff_sae"

    def __post_init__(self) -> None:
        n_latents, d_model = self.W_dec.shape
        require_shape("W_enc", self.W_enc, (d_model, n_latents))
        require_shape("b_enc", self.b_enc, (n_latents,))
        require_shape("b_dec", self.b_dec, (d_model,))
        require_shape("threshold", self.threshold, (n_latents,))
        require(bool((self.threshold >= 0.0).all()), "thresholds must not be negative")
        norms = self.W_dec.norm(dim=1)
        require(torch.allclose(norms, torch.ones_like(norms), atol=1e-4), "decoder rows must have unit norm")

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.W_dec.shape[1]

    @property
    def n_latents(self) -> int:
        """Number of features."""
        return self.W_dec.shape[0]

    @property
    def W_dec_tuned(self) -> Float[Tensor, "n_latents d_model"]:  # noqa: N802 (named as in the papers)
        """The decoder itself: its rows are directions of Δ and have unit norm."""
        return self.W_dec

    @torch.no_grad()
    def encode(self, batch: TokenBatch) -> Float[Tensor, "tokens n_latents"]:
        """Latents of each token's Δ: preactivations above the latent's threshold, otherwise 0."""
        preactivations = (self.target(batch) - self.b_dec) @ self.W_enc + self.b_enc
        return torch.where(preactivations > self.threshold, preactivations, 0.0)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "tokens n_latents"]) -> Float[Tensor, "tokens d_model"]:
        """The Δ that these latents represent."""
        return latents @ self.W_dec + self.b_dec

    def target(self, batch: TokenBatch) -> Float[Tensor, "tokens d_model"]:
        """Δ of the batch."""
        return batch.delta

    def to(self, device: torch.device | str) -> Self:
        """The same dictionary on ``device``."""
        return replace(self, **{field.name: moved(getattr(self, field.name), device) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class DiffSAEConfig(BatchTopKConfig):
    """Configuration of a Diff-SAE."""

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh Diff-SAE, scaled and centred by ``sample``."""
        return DiffSAETrainee(self, sample, generator=generator, token_visits=token_visits)


class DiffSAETrainee:
    """A Diff-SAE in training: scales Δ and leaves the rest to the BatchTopK core."""

    def __init__(
        self, config: DiffSAEConfig, sample: TokenBatch, *, generator: torch.Generator, token_visits: int
    ) -> None:
        self.config = config
        inputs, self.scale = scaled(sample.delta)
        self.core = BatchTopKCore(config, inputs, generator=generator, token_visits=token_visits, unit_norm=True)

    def parameters(self) -> list[nn.Parameter]:
        """The core's weights."""
        return self.core.parameters()

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """Reconstruction and auxiliary loss of Δ."""
        return self.core.loss(batch.delta * self.scale)

    def before_step(self) -> None:
        """Project the decoder's gradient off its rows."""
        self.core.before_step()

    def after_step(self) -> None:
        """Renormalise the decoder's rows."""
        self.core.after_step()

    def calibrate(self, batch: TokenBatch) -> None:
        """Set the threshold by this batch: k active latents per token."""
        self.core.calibrate(batch.delta * self.scale)

    @torch.no_grad()
    def finish(self) -> DiffSAE:
        """The dictionary with the scale folded in: every weight that carries a unit is divided by it."""
        core = self.core
        return DiffSAE(
            W_enc=core.W_enc.detach().T.contiguous(),
            b_enc=core.b_enc.detach() / self.scale,
            W_dec=unit_rows(core.W_dec.detach()),
            b_dec=core.b_dec.detach() / self.scale,
            threshold=torch.full_like(core.b_enc, core.threshold / self.scale),
            k=self.config.k,
            input_scale=self.scale,
        )
