"""Where an architecture keeps its residual stream: the body, its blocks and its output head.

One small table of attribute paths, tried in order; an architecture that matches none is refused by name.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit.errors import LayerNotFound, UnsupportedArchitecture
from audit.models.depths import auto_layers

# Paths of the list of blocks inside the body (the model without its head), in transformers' naming.
_BLOCK_PATHS: Final = ("layers", "h", "decoder.layers", "transformer.layers")
# Head-side operations that scale or shift logits in a way that ``logits`` below does not reproduce.
_UNSUPPORTED_HEAD_KEYS: Final = ("lm_head_multiplier",)


def resolve_layers(wanted: tuple[int, ...] | str, n_blocks: int) -> tuple[int, ...]:
    """Layer numbers (0-based, the residual stream leaving that block) for a spec's ``layers``.

    Raises:
        LayerNotFound: a number is not below ``n_blocks``.
    """
    if isinstance(wanted, str):
        return auto_layers(n_blocks)
    missing = [layer for layer in wanted if layer >= n_blocks]
    if missing:
        raise LayerNotFound(
            f"layer {missing[0]} does not exist: the model has {n_blocks} blocks, numbered 0 to {n_blocks - 1}",
            hint="set layers to existing ones (--layers 3,5), or leave it out for auto",
        )
    return tuple(sorted(wanted))


@dataclass(frozen=True)
class ModelParts:
    """The parts of one causal language model.

    Attributes:
        body: the model without its head; its ``last_hidden_state`` is what the head reads.
        blocks: the residual blocks in order.
        head: the unembedding, a linear map from ``d_model`` to the vocabulary.
        softcap: Gemma-2's cap c on logits, c·tanh(logits / c); None if there is none.
        scale: what the head's output is multiplied by (Cohere), or divided by (Granite, as its inverse).
        d_model: width of the residual stream.
    """

    body: nn.Module
    blocks: nn.ModuleList
    head: nn.Module
    softcap: float | None
    d_model: int
    scale: float = 1.0

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def logits(self, final: Float[Tensor, "positions d_model"]) -> Float[Tensor, "positions vocabulary"]:
        """Float32 logits of the head's input; the weights are widened one slice of the vocabulary at a time."""
        weight = getattr(self.head, "weight", None)
        if isinstance(weight, Tensor) and type(self.head) is nn.Linear and not torch.is_grad_enabled():
            bias = getattr(self.head, "bias", None)
            logits = _sliced_linear(final, weight, bias)
        else:
            logits = self.head(final.to(_dtype_of(self.head, final))).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits


def _dtype_of(module: nn.Module, fallback: Tensor) -> torch.dtype:
    parameter = next(module.parameters(), None)
    return fallback.dtype if parameter is None else parameter.dtype


def _sliced_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, rows: int = 8192) -> Tensor:
    """``inputs @ weight.T`` in float32 without a float32 copy of the whole weight.

    Products of bfloat16 numbers accumulated in float32 lose nothing, so on a CPU the matrix product of bfloat16 inputs
    and weights may use the processor's bfloat16 units; the result still comes out in float32.
    """
    exact = weight.dtype == torch.bfloat16 and inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu"
    wide = inputs.float()
    out = torch.empty(inputs.shape[0], weight.shape[0], dtype=torch.float32, device=inputs.device)
    with _bfloat16_products() if exact else contextlib.nullcontext():
        for start in range(0, weight.shape[0], rows):
            stop = min(start + rows, weight.shape[0])
            out[:, start:stop] = wide @ weight[start:stop].float().T
    if bias is not None:
        out += bias.float()
    return out


@contextlib.contextmanager
def _bfloat16_products() -> Iterator[None]:
    """Let float32 matrix products on the CPU multiply in bfloat16 and accumulate in float32."""
    backend: Any = torch.backends.mkldnn
    settings = backend.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def locate(model: nn.Module) -> ModelParts:
    """Find the parts of a transformers causal language model.

    Raises:
        UnsupportedArchitecture: no known path leads to a list of blocks, or the head does more than we reproduce.
    """
    config: Any = getattr(model, "config", None)
    name = getattr(config, "model_type", type(model).__name__)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    body = getattr(model, getattr(model, "base_model_prefix", "") or "model", None)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    if body is None or head is None:
        raise _unsupported(name, "it has no body and head of a causal language model")
    for key in _UNSUPPORTED_HEAD_KEYS:
        if getattr(text_config, key, None) not in (None, 1, 1.0):
            raise _unsupported(name, f"its head uses '{key}'")
    for path in _BLOCK_PATHS:
        blocks: Any = body
        for part in path.split("."):
            blocks = getattr(blocks, part, None)
        if isinstance(blocks, nn.ModuleList) and len(blocks) > 0:
            return ModelParts(
                body=body,
                blocks=blocks,
                head=head,
                softcap=getattr(text_config, "final_logit_softcapping", None),
                d_model=int(text_config.hidden_size),
                scale=_scale_of(text_config),
            )
    raise _unsupported(name, "its blocks are in none of the known places")


def _scale_of(config: Any) -> float:
    """What transformers multiplies the head's output by: Cohere's ``logit_scale``, Granite's ``1 / logits_scaling``."""
    return float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)


def _unsupported(name: str, why: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(
        f"architecture '{name}' is not supported: {why}",
        hint="supported are decoder-only transformers such as Llama, GPT-2, GPT-NeoX, Qwen, Gemma and Mistral",
    )
