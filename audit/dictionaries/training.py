"""One training loop for every architecture."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from audit.dictionaries.base import ActivationSource, Dictionary, DictionaryConfig, TokenBatch, require
from audit.dictionaries.quality import Quality, measure, read
from audit.dictionaries.sources import BalancedOrder
from audit.errors import ModelRejected

_ROW_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Length, rate and device of a training; what is trained is given by the dictionary's own configuration.

    Raises:
        ValueError: a size is not positive, or the shares of warm-up and decay overlap.
    """

    token_visits: int
    """Total number of tokens shown, counting repetitions."""
    batch_size: int | None = None
    """Tokens per step; if None, 1/512 of the budget, but at least 256 and at most 2,048. Small budgets need more steps
    rather than more precise ones."""
    learning_rate: float | None = None
    """Adam's peak learning rate; ``0.1 / sqrt(d_model)`` if None. Adam changes every weight by about the rate, and a
    weight of a unit row is about ``1 / sqrt(d_model)``, so this is a tenth of a row per step at any width (planted
    features are recovered best at this rate for widths 64 and 576)."""
    warmup_share: float = 0.05
    """Share of the steps over which the rate rises linearly."""
    decay_share: float = 0.5
    """Share of the steps, at the end, over which it falls linearly to zero."""
    sample_tokens: int = 16_384
    """Maximum number of tokens that set scales and the initial bias."""
    measure_tokens: int = 16_384
    """Maximum number of tokens that the summary is measured on."""
    seed: int = 0
    """Seed of the weights, of the order of tokens and of the measured sample."""
    device: str = "cpu"
    """Where the weights live; activations are moved there batch by batch."""

    def __post_init__(self) -> None:
        sizes = (self.token_visits, self.tokens_per_step, self.sample_tokens, self.measure_tokens)
        require(min(sizes) >= 1, "token_visits, batch_size, sample_tokens and measure_tokens must be positive")
        require(self.learning_rate is None or self.learning_rate > 0.0, "learning_rate must be positive")
        require(min(self.warmup_share, self.decay_share) >= 0.0, "shares must not be negative")
        require(self.warmup_share + self.decay_share <= 1.0, "warm-up and decay must not overlap")

    @property
    def tokens_per_step(self) -> int:
        """The batch size in effect."""
        if self.batch_size is not None:
            return self.batch_size
        return min(max(self.token_visits // 512, 256), 2_048)

    @property
    def steps(self) -> int:
        """Number of optimiser steps; the last batch may be short."""
        return math.ceil(self.token_visits / self.tokens_per_step)


@dataclass(frozen=True)
class TrainingSummary:
    """The result of a training, and a record of how it went."""

    quality: Quality
    """On a sample of the training tokens, every group with the same share."""
    loss_curve: tuple[float, ...]
    """Mean loss over each of up to 50 equal stretches of the training."""
    steps: int
    """Optimiser steps taken."""
    token_visits: int
    """Tokens shown."""


def train(
    config: DictionaryConfig,
    source: ActivationSource,
    settings: TrainSettings,
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[Dictionary, TrainingSummary]:
    """Train a dictionary on ``source``.

    Equal arguments give equal weights, on the same device with the same number of threads. ``progress`` is called with
    the fraction done about every 1%; an exception that it raises ends the training.

    Raises:
        ValueError: the source's width is not the configuration's, or it has no tokens.
        audit.errors.ModelRejected: activations, or the loss computed from them, are not finite.
    """
    require(source.n_tokens > 0, "there are no tokens to train on")
    require(source.d_model == config.d_model, f"activations are {source.d_model} wide, the config {config.d_model}")
    generator = torch.Generator().manual_seed(settings.seed)
    order = BalancedOrder(source.groups, generator)
    sample = finite_sample(source, order, settings)
    trainee = config.build(sample, generator=generator, token_visits=settings.token_visits)
    del sample
    peak_rate = settings.learning_rate or _ROW_SHARE / math.sqrt(config.d_model)
    optimiser = torch.optim.Adam(trainee.parameters(), lr=peak_rate, fused=True)
    curve = _LossCurve(settings.steps)
    report_every = max(1, settings.steps // 100)
    for step in range(settings.steps):
        count = min(settings.tokens_per_step, settings.token_visits - step * settings.tokens_per_step)
        batch = read(source, order.take(count), settings.device)
        for group in optimiser.param_groups:
            group["lr"] = peak_rate * learning_rate_factor(step, settings)
        optimiser.zero_grad(set_to_none=True)
        loss = trainee.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        trainee.before_step()
        optimiser.step()
        trainee.after_step()
        curve.add(loss.detach())
        if progress is not None and ((step + 1) % report_every == 0 or step + 1 == settings.steps):
            progress((step + 1) / settings.steps)
    dictionary = trainee.finish()
    quality = measure(dictionary, source, measured_tokens(source, settings), device=settings.device)
    summary = TrainingSummary(quality, curve.means(), settings.steps, settings.token_visits)
    return dictionary, summary


def learning_rate_factor(step: int, settings: TrainSettings) -> float:
    """Factor on the peak rate at ``step`` (from 0): linear up over the warm-up, 1, linear down to (almost) 0."""
    done = (step + 1) / settings.steps
    up = done / settings.warmup_share if settings.warmup_share else 1.0
    left = 1.0 - step / settings.steps
    down = left / settings.decay_share if settings.decay_share else 1.0
    return min(1.0, up, down)


def finite_sample(source: ActivationSource, order: BalancedOrder, settings: TrainSettings) -> TokenBatch:
    """Tokens that set scales and biases, balanced over groups.

    Raises:
        audit.errors.ModelRejected: a value is infinite or not a number.
    """
    count = min(settings.sample_tokens, source.n_tokens)
    sample = read(source, order.take(count), settings.device)
    if not all(bool(part.isfinite().all()) for part in sample):
        raise ModelRejected(
            "The activations hold infinite values or NaN.",
            hint="The model's weights may be damaged, or bfloat16 overflows: try dtype float32.",
        )
    return sample


def measured_tokens(source: ActivationSource, settings: TrainSettings) -> Int[Tensor, "tokens"]:
    """The tokens that quality is measured on: the same for every dictionary of one source and seed."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    return BalancedOrder(source.groups, generator).take(min(settings.measure_tokens, source.n_tokens))


class _LossCurve:
    """Mean loss over stretches; a loss that is not finite is refused at the end of each."""

    _POINTS = 50

    def __init__(self, steps: int) -> None:
        self._length = max(1, math.ceil(steps / self._POINTS))
        self._stretch: list[Tensor] = []
        self._means: list[float] = []

    def add(self, loss: Tensor) -> None:
        # Kept as tensors until the stretch is full, so that a GPU is not made to wait at every step.
        self._stretch.append(loss)
        if len(self._stretch) == self._length:
            self._close()

    def means(self) -> tuple[float, ...]:
        if self._stretch:
            self._close()
        return tuple(self._means)

    def _close(self) -> None:
        mean = float(torch.stack(self._stretch).mean())
        self._stretch = []
        if not math.isfinite(mean):
            raise ModelRejected(
                "The dictionary's loss is not finite.", hint="The activations hold infinite values or NaN."
            )
        self._means.append(mean)
