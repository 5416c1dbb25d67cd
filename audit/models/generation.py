"""Set-up of every greedy generation in an audit: padding on the left, and none of the checkpoint's own settings."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig

from audit.models.pair import ModelPair
from audit.prompts.rendering import Tokens


def pad_token(tokenizer: Any) -> int:
    """The id that pads shorter prompts on the left; it is never attended to."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0))


def end_tokens(pair: ModelPair) -> list[int]:
    """The ids that end a text for either model: those of tokenizer, configurations and generation settings, sorted.

    A checkpoint often has several: of the text, and of a turn of its chat. They are the same for both models of a pair,
    so that neither is asked otherwise.
    """
    ends = [pair.tokenizer.eos_token_id]
    for model in pair.models.values():
        ends += [getattr(model.config, "eos_token_id", None), getattr(model.generation_config, "eos_token_id", None)]
    for side in ("base", "tuned"):  # an adapter's folder may say more than the model that it was put on
        settings = pair.settings_of(side)
        with contextlib.suppress(ValueError):
            ends.append(json.loads(settings.generation.get("eos_token_id", "null")))
        ends.append(pair.tokenizer.get_vocab().get(settings.tokens.get("eos_token")))
    flat = [one for end in ends for one in (end if isinstance(end, list | tuple) else [end])]
    weight: Any = pair.parts["tuned"].head.weight
    return sorted({one for one in flat if isinstance(one, int) and 0 <= one < weight.shape[0]})


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
