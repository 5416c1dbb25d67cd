"""The BatchTopK autoencoder under both architectures: activation, auxiliary loss, running threshold.

Sources: BatchTopK and its inference threshold, Bussmann et al. 2412.06410; AuxK, Gao et al. 2406.04093 appendix A.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from audit.dictionaries.base import inverse_mean_norm, require, unit_rows
from audit.dictionaries.sparse import batch_topk_threshold, dense_autoencode, sparse_autoencode, use_sparse


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig:
    """Configuration shared by both BatchTopK architectures.

    Raises:
        ValueError: a size is not positive, ``k`` exceeds ``n_latents``, or a share is outside (0, 1].
    """

    d_model: int
    """Width of the residual stream."""
    n_latents: int
    """Number of features."""
    k: int
    """Active latents per token, on average over a batch."""
    aux_coefficient: float = 1 / 32
    """Weight of the auxiliary loss; 0 turns it off."""
    aux_k: int | None = None
    """Dead latents per token that the auxiliary loss uses; half of ``d_model`` if None."""
    dead_after_share: float = 1 / 16
    """A latent silent for this share of the whole budget counts as dead, so that the auxiliary loss can act within a
    small budget too (with a fixed number of tokens, as for the large dictionaries of the literature, it could not)."""
    threshold_momentum: float = 0.95
    """Momentum of the running mean of the batch threshold. Near the end the learning rate is almost zero, so a short
    memory is accurate."""
    bfloat16_selection: bool = False
    """On a CPU: choose the active latents with a bfloat16 product, then compute their values in float32. Processors
    with AMX or AVX512-BF16 compute that product several times as fast, which saves a fifth of the training time at
    equal quality."""
    initialise_from_data: bool = True
    """Initialise decoder rows with randomly drawn inputs, not random directions: fewer dead latents in a small
    budget."""

    def __post_init__(self) -> None:
        require(min(self.d_model, self.n_latents, self.k) >= 1, "d_model, n_latents and k must be positive")
        require(self.k <= self.n_latents, f"k ({self.k}) must not exceed n_latents ({self.n_latents})")
        require(self.aux_k is None or self.aux_k >= 1, "aux_k must be positive")
        require(self.aux_coefficient >= 0.0, "aux_coefficient must not be negative")
        require(0.0 < self.dead_after_share <= 1.0, "dead_after_share must be in (0, 1]")
        require(0.0 <= self.threshold_momentum < 1.0, "threshold_momentum must be in [0, 1)")


class BatchTopKCore:
    """Weights, loss and statistics of a BatchTopK autoencoder on inputs that are already scaled.

    ``W_enc`` and ``W_dec`` are both ``[n_latents width]``: a latent is a row of each, the layout that the sparse
    products need. Rows of both start as the same unit vectors.
    """

    def __init__(
        self,
        config: BatchTopKConfig,
        sample: Float[Tensor, "tokens width"],
        *,
        generator: torch.Generator,
        token_visits: int,
        unit_norm: bool,
    ) -> None:
        device = sample.device
        self.config = config
        self.unit_norm = unit_norm
        mean = sample.mean(dim=0)
        rows = _initial_rows(config, sample - mean, generator).to(device)
        self.W_dec = nn.Parameter(rows.clone())
        self.W_enc = nn.Parameter(rows.clone())
        self.b_enc = nn.Parameter(torch.zeros(config.n_latents, device=device))
        self.b_dec = nn.Parameter(mean.clone())
        self.sparse = use_sparse(device, n_latents=config.n_latents, k=config.k)
        self.aux_k = config.aux_k or max(1, sample.shape[1] // 2)
        self.dead_after_tokens = max(1, round(config.dead_after_share * token_visits))
        self.silent_tokens = torch.zeros(config.n_latents, dtype=torch.long, device=device)
        # The loss is divided by this, so that it reads as the share of variance not explained.
        self._variance = max(float((sample - mean).square().sum(dim=1).mean()), torch.finfo(torch.float32).tiny)
        self._threshold_sum = 0.0
        self._threshold_weight = 0.0

    def parameters(self) -> list[nn.Parameter]:
        """The two matrices and the two biases."""
        return [self.W_enc, self.W_dec, self.b_enc, self.b_dec]

    @property
    def threshold(self) -> float:
        """Bias-corrected running mean of the batch threshold; 0 before the first batch with an active latent."""
        return self._threshold_sum / self._threshold_weight if self._threshold_weight else 0.0

    @property
    def dead(self) -> Bool[Tensor, "n_latents"]:
        """Latents that were silent for too long."""
        return self.silent_tokens >= self.dead_after_tokens

    def loss(
        self, inputs: Float[Tensor, "tokens width"], score_weights: Float[Tensor, "n_latents"] | None = None
    ) -> Float[Tensor, ""]:
        """Squared error over the sample's variance, plus the auxiliary loss; updates threshold and dead counts.

        ``score_weights`` multiply the preactivations when the active latents are chosen, but not their values.
        """
        # The decoder bias is subtracted from the input; folded into the encoder's bias, this needs no pass over the
        # tokens.
        bias = self.b_enc - self.W_enc @ self.b_dec
        quick = self.sparse and self.config.bfloat16_selection
        with torch.no_grad():
            preactivations = _bfloat16_linear(inputs, self.W_enc, bias) if quick else F.linear(inputs, self.W_enc, bias)
            scores = preactivations if score_weights is None else preactivations * score_weights
            threshold = batch_topk_threshold(scores, self.config.k)
            mask = scores >= threshold
        if self.sparse:
            known = None if quick else preactivations
            decoded = sparse_autoencode(inputs, known, mask, self.W_enc, bias, self.W_dec)
        else:
            decoded = dense_autoencode(inputs, mask, self.W_enc, bias, self.W_dec)
        residual = inputs - self.b_dec - decoded
        loss = residual.square().sum(dim=1).mean() / self._variance
        dead = self.dead
        if self.config.aux_coefficient > 0.0 and bool(dead.any()):
            auxiliary = aux_k_loss(
                inputs, residual.detach(), dead, W_enc=self.W_enc, bias=bias, W_dec=self.W_dec, aux_k=self.aux_k
            )
            loss = loss + self.config.aux_coefficient * auxiliary
        self._record(mask, threshold)
        return loss

    def before_step(self) -> None:
        """Remove the component along each unit row from the decoder's gradient, because the norm must not change."""
        gradient = self.W_dec.grad
        if self.unit_norm and gradient is not None:
            # A batched product of rows and in-place sums: at small batches, temporaries of the decoder's size would
            # cost as much as the training step itself.
            rows = self.W_dec.data
            along = torch.bmm(gradient.unsqueeze(1), rows.unsqueeze(2)).squeeze(2)
            gradient.addcmul_(rows, along, value=-1.0)

    def after_step(self) -> None:
        """Renormalise the decoder's rows: an optimiser with per-weight step sizes still leaves the unit sphere."""
        if self.unit_norm:
            rows = self.W_dec.data
            rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(torch.finfo(rows.dtype).tiny))

    @torch.no_grad()
    def calibrate(
        self, inputs: Float[Tensor, "tokens width"], score_weights: Float[Tensor, "n_latents"] | None = None
    ) -> None:
        """Set the threshold by one sample instead of by training: k active latents per token on it."""
        scores = F.linear(inputs, self.W_enc, self.b_enc - self.W_enc @ self.b_dec)
        if score_weights is not None:
            scores = scores * score_weights
        self._threshold_sum, self._threshold_weight = batch_topk_threshold(scores, self.config.k), 1.0

    def _record(self, mask: Tensor, threshold: float) -> None:
        fired = mask.any(dim=0)
        self.silent_tokens += mask.shape[0]
        self.silent_tokens[fired] = 0
        if bool(fired.any()):
            momentum = self.config.threshold_momentum
            self._threshold_sum = momentum * self._threshold_sum + (1.0 - momentum) * threshold
            self._threshold_weight = momentum * self._threshold_weight + (1.0 - momentum)


def aux_k_loss(
    inputs: Float[Tensor, "tokens width"],
    residual: Float[Tensor, "tokens width"],
    dead: Bool[Tensor, "n_latents"],
    *,
    W_enc: Float[Tensor, "n_latents width"],
    bias: Float[Tensor, "n_latents"],
    W_dec: Float[Tensor, "n_latents width"],
    aux_k: int,
) -> Float[Tensor, ""]:
    """How badly the ``aux_k`` strongest dead latents of each token explain the residual of the active ones.

    The share of the residual's energy that they do not explain: 1 if they explain nothing, 0 if they explain all of it.
    With fewer dead latents than ``aux_k`` the loss is scaled down by their ratio, as in Gao et al. 2406.04093.
    """
    chosen = dead.nonzero().squeeze(1)
    latents = F.linear(inputs, W_enc[chosen], bias[chosen]).relu()
    if chosen.numel() > aux_k:
        kept = latents.detach().topk(aux_k, dim=1, sorted=False).indices
        latents = latents * torch.zeros_like(latents).scatter_(1, kept, 1.0)
    missed = (residual - latents @ W_dec[chosen]).square().sum()
    energy = residual.square().sum().clamp_min(torch.finfo(residual.dtype).tiny)
    return missed / energy * min(1.0, chosen.numel() / aux_k)


def scaled(sample: Float[Tensor, "tokens width"]) -> tuple[Float[Tensor, "tokens width"], float]:
    """``sample`` scaled to unit mean row norm, and the scaling factor."""
    scale = inverse_mean_norm(sample)
    return sample * scale, scale


def _bfloat16_linear(inputs: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return F.linear(inputs.bfloat16(), weights.bfloat16(), bias.bfloat16()).float()


def _initial_rows(config: BatchTopKConfig, centred: Tensor, generator: torch.Generator) -> Tensor:
    width = centred.shape[1]
    random = unit_rows(torch.randn(config.n_latents, width, generator=generator))
    if not config.initialise_from_data:
        return random
    picks = torch.randint(centred.shape[0], (config.n_latents,), generator=generator)
    drawn = centred.cpu()[picks]
    # An input of (almost) zero length has no direction, and two equal draws would give the same latent twice, so some
    # noise is added.
    usable = drawn.norm(dim=1, keepdim=True) > 1e-6
    return unit_rows(torch.where(usable, unit_rows(drawn), 0.0) + _INITIAL_NOISE * random)


_INITIAL_NOISE = 0.3
