"""Set-up of every greedy generation in an audit: padding on the left, and none of the checkpoint's own settings."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig

from audit.prompts.rendering import Tokens


def pad_token(tokenizer: Any) -> int:
    """The id that pads shorter prompts on the left; it is never attended to."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0))


def left_padded(
    prompts: Sequence[Tokens], pad: int, device: torch.device
) -> tuple[Int[Tensor, "prompts length"], Int[Tensor, "prompts length"]]:
    """Token ids padded on the left, as generation needs them, and the mask of what is not padding."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt.ids)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


@contextlib.contextmanager
def plain_generation(model: Any) -> Iterator[None]:
    """Disable the checkpoint's own generation settings, which transformers would use for everything that is not set.

    Otherwise a repetition penalty, for example, would change what "greedy" means, and differ between checkpoints.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own
