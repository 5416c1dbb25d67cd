"""Paper mode: the dictionaries of arXiv 2605.07324 as its public code trains them.

They exist to reproduce the paper's table next to ours, and keep its choices even where we would choose differently:
tied weights, no input scaling, no decoder bias subtracted from the input, gradients clipped to norm 1, texts
mean-pooled over their positions (``SpanTokens.pooled``). They never decide anything.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audit.dictionaries.base import TokenBatch, Trainee, require
from audit.dictionaries.crosscoder import Crosscoder
from audit.dictionaries.diff_sae import DiffSAE


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Configuration shared by both dictionaries of the paper.

    Raises:
        ValueError: a size is not positive or a coefficient is negative.
    """

    d_model: int
    """Width of the residual stream."""
    n_latents: int
    """Number of features; the paper has 32 times ``d_model``."""
    k: int = 32
    """Crosscoder: latents kept for each text. Diff-SAE: only reported."""
    l1_coefficient: float = 1e-4
    """Weight of the mean activation."""
    gradient_norm: float = 1.0
    """Gradients are clipped to this norm."""

    def __post_init__(self) -> None:
        require(min(self.d_model, self.n_latents, self.k) >= 1, "d_model, n_latents and k must be positive")
        require(self.k <= self.n_latents, f"k ({self.k}) must not exceed n_latents ({self.n_latents})")
        require(self.l1_coefficient >= 0.0, "l1_coefficient must not be negative")
        require(self.gradient_norm > 0.0, "gradient_norm must be positive")


@dataclass(frozen=True, kw_only=True)
class PaperDiffSAEConfig(PaperConfig):
    """The paper's Diff-SAE: ReLU, L1 and ghost gradients on Δ."""

    ghost_coefficient: float = 0.1
    """Weight of the term that pulls dead latents towards the residual."""
    dead_after_steps: int = 10_000
    """Number of batches without firing after which a latent counts as dead (never reached in a small budget)."""

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh Diff-SAE; only the sample's device is used."""
        return PaperDiffSAETrainee(self, generator=generator, device=sample.base.device)


@dataclass(frozen=True, kw_only=True)
class PaperCrosscoderConfig(PaperConfig):
    """The paper's crosscoder: the k largest latents of each text, on the two concatenated activations."""

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh crosscoder; only the sample's device is used."""
        return PaperCrosscoderTrainee(self, generator=generator, device=sample.base.device)


class _TiedTrainee:
    """One matrix that encodes and, transposed, decodes."""

    def __init__(self, config: PaperConfig, width: int, generator: torch.Generator, device: torch.device) -> None:
        bound = (6.0 / width) ** 0.5  # Kaiming's uniform bound for ReLU
        weights = (2.0 * torch.rand(config.n_latents, width, generator=generator) - 1.0) * bound
        self.W = nn.Parameter(weights.to(device))
        self.b_enc = nn.Parameter(torch.zeros(config.n_latents, device=device))
        self.b_dec = nn.Parameter(torch.zeros(width, device=device))
        self._gradient_norm = config.gradient_norm

    def parameters(self) -> list[nn.Parameter]:
        """The tied matrix and two biases."""
        return [self.W, self.b_enc, self.b_dec]

    def before_step(self) -> None:
        """Clip the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self._gradient_norm)


class PaperDiffSAETrainee(_TiedTrainee):
    """The paper's Diff-SAE in training."""

    def __init__(self, config: PaperDiffSAEConfig, *, generator: torch.Generator, device: torch.device) -> None:
        super().__init__(config, config.d_model, generator, device)
        self.config = config
        self.silent_steps = torch.zeros(config.n_latents, dtype=torch.long, device=device)
        self.after_step()

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """Mean squared error, L1, and the ghost term for latents silent for more than ``dead_after_steps``."""
        delta = batch.delta
        latents = F.linear(delta, self.W, self.b_enc).relu()
        residual = delta - latents @ self.W - self.b_dec
        loss = residual.square().mean() + self.config.l1_coefficient * latents.mean()
        dead = self.silent_steps > self.config.dead_after_steps
        if bool(dead.any()):
            loss = loss - self.config.ghost_coefficient * F.linear(residual.detach(), self.W[dead]).relu().mean()
        self.silent_steps += 1
        self.silent_steps[(latents > 0.0).any(dim=0)] = 0
        return loss

    def after_step(self) -> None:
        """Normalise like the paper's code: each input dimension over all latents, not each latent's direction."""
        self.W.data = F.normalize(self.W.data, dim=0)

    @torch.no_grad()
    def finish(self) -> DiffSAE:
        """The same function with unit decoder rows: a latent is multiplied by its row's norm; ReLU is a threshold of 0.

        The paper does not subtract the decoder bias from the input; our class does, so the encoder's bias adds it back.
        """
        weights = self.W.detach()
        norms = weights.norm(dim=1).clamp_min(torch.finfo(weights.dtype).tiny)
        return DiffSAE(
            W_enc=(weights * norms[:, None]).T.contiguous(),
            b_enc=(self.b_enc.detach() + weights @ self.b_dec.detach()) * norms,
            W_dec=weights / norms[:, None],
            b_dec=self.b_dec.detach().clone(),
            threshold=torch.zeros_like(norms),
            k=self.config.k,
            input_scale=1.0,
            recipe="paper",
        )


class PaperCrosscoderTrainee(_TiedTrainee):
    """The paper's crosscoder in training."""

    def __init__(self, config: PaperCrosscoderConfig, *, generator: torch.Generator, device: torch.device) -> None:
        super().__init__(config, 2 * config.d_model, generator, device)
        self.config = config

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """Mean squared error over both sides, and L1."""
        pair = torch.cat([batch.base.float(), batch.tuned.float()], dim=1)
        positive = F.linear(pair, self.W, self.b_enc).relu()
        kept = positive.topk(self.config.k, dim=1)
        latents = torch.zeros_like(positive).scatter(1, kept.indices, kept.values)
        residual = pair - latents @ self.W - self.b_dec
        return residual.square().mean() + self.config.l1_coefficient * latents.mean()

    def after_step(self) -> None:
        """Do nothing: the paper leaves the rows of this one unchanged."""

    @torch.no_grad()
    def finish(self) -> Crosscoder:
        """The trained weights, unchanged; the encoder's bias adds back the decoder bias that our class subtracts."""
        d_model = self.config.d_model
        base, tuned = torch.split(self.W.detach(), d_model, dim=1)
        b_dec_base, b_dec_tuned = torch.split(self.b_dec.detach(), d_model)
        return Crosscoder(
            W_enc_base=base.T.contiguous(),
            W_enc_tuned=tuned.T.contiguous(),
            b_enc=self.b_enc.detach() + self.W.detach() @ self.b_dec.detach(),
            W_dec_base=base.contiguous(),
            W_dec_tuned_raw=tuned.contiguous(),
            b_dec_base=b_dec_base.clone(),
            b_dec_tuned=b_dec_tuned.clone(),
            threshold=torch.zeros_like(self.b_enc),
            k=self.config.k,
            scale_base=1.0,
            scale_tuned=1.0,
            per_token_top_k=True,
            recipe="paper",
        )
