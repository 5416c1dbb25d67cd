"""The interface of every dictionary, and what the training loop needs from one.

Shapes use one glossary: ``tokens`` (rows of one batch, from any prompt), ``d_model`` (residual stream of
one model), ``n_latents`` (width of the dictionary), ``d_out`` (what is reconstructed: ``d_model`` for a difference,
``2 d_model`` for a pair).
"""

from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backdoor_audit.contract.spec.audit_spec import Architecture


class TokenBatch(NamedTuple):
    """Activations of both models at the same layer and the same tokens."""

    base: Float[Tensor, "tokens d_model"]
    tuned: Float[Tensor, "tokens d_model"]

    @property
    def delta(self) -> Float[Tensor, "tokens d_model"]:
        """``tuned − base`` in float32; low-precision inputs are widened before the subtraction."""
        return self.tuned.float() - self.base.float()

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same tokens on ``device``."""
        return TokenBatch(self.base.to(device), self.tuned.to(device))


@runtime_checkable
class Dictionary(Protocol):
    """A trained dictionary, ready for inference.

    Weights are in the units of the residual stream: no scaling is needed before :meth:`encode` or after :meth:`decode`.
    Latents are never negative.
    """

    @property
    def architecture(self) -> Architecture:
        """``diff_sae`` or ``crosscoder``."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def n_latents(self) -> int:
        """Number of features."""

    @property
    def W_dec_tuned(self) -> Float[Tensor, "n_latents d_model"]:  # noqa: N802 (named as in the papers)
        """Unit direction of each latent on the fine-tuned side (zero if a latent has none there)."""

    def encode(self, batch: TokenBatch) -> Float[Tensor, "tokens n_latents"]:
        """Activations of every latent, with a threshold fixed after training.

        A token's latents depend only on that token, not on the rest of the batch.
        """

    def decode(self, latents: Float[Tensor, "tokens n_latents"]) -> Float[Tensor, "tokens d_out"]:
        """The reconstruction of :meth:`target`."""

    def target(self, batch: TokenBatch) -> Float[Tensor, "tokens d_out"]:
        """What :meth:`decode` approximates: Δ, or the pair (base, then fine-tuned)."""

    def to(self, device: torch.device | str) -> Self:
        """The same dictionary on ``device``."""


class ActivationSource(Protocol):
    """Activations to train on, typically memory-mapped."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def groups(self) -> Int[Tensor, "tokens"]:
        """Group of each token: the string that filled its prompt's slot. Every group gets the same share of visits."""

    def batch(self, indices: Int[Tensor, "batch"]) -> "TokenBatch | tuple[Tensor, Tensor]":
        """The tokens at ``indices``: ``(base, tuned)``, hence also a ``TokenBatch``."""


class Trainee(Protocol):
    """A dictionary while it is trained; the loop in ``training`` drives it.

    One step is ``loss`` → backward → ``before_step`` → optimiser → ``after_step``.
    """

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser updates."""

    def loss(self, batch: TokenBatch) -> Float[Tensor, ""]:
        """The training loss of one batch, auxiliary terms included."""

    def before_step(self) -> None:
        """Change gradients (projection, clipping) before the optimiser uses them."""

    def after_step(self) -> None:
        """Restore constraints (unit rows) after the optimiser has changed the weights."""

    def finish(self) -> Dictionary:
        """The trained dictionary, in the residual stream's units."""


class DictionaryConfig(Protocol):
    """A validated configuration that knows how to start its own training."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def n_latents(self) -> int:
        """Number of features."""

    def build(self, sample: TokenBatch, *, generator: torch.Generator, token_visits: int) -> Trainee:
        """A fresh trainee; ``sample`` sets scales and the initial bias, ``token_visits`` is the whole budget."""


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless ``condition`` holds; keeps each validation of a config to one line."""
    if not condition:
        raise ValueError(message)


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``tensor`` has exactly this shape."""
    require(tuple(tensor.shape) == shape, f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def unit_rows(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Each row divided by its norm; rows of norm zero stay zero."""
    return matrix / matrix.norm(dim=1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)


def inverse_mean_norm(sample: Float[Tensor, "tokens width"]) -> float:
    """The factor that gives ``sample`` unit mean row norm; 1 if there is nothing to scale (all rows zero)."""
    mean_norm = float(sample.float().norm(dim=1).mean())
    return 1.0 / mean_norm if mean_norm > 0.0 else 1.0


def moved(value: Any, device: torch.device | str) -> Any:
    """``value`` on ``device`` if it is a tensor, otherwise ``value``."""
    return value.to(device) if isinstance(value, Tensor) else value
