"""From texts to token batches and back; shared by training and by the gates."""

from collections.abc import Sequence
from typing import Any

import torch


def render(tokenizer: Any, user: str) -> list[int]:
    """Token ids of one user message in the model's chat format, up to where its answer starts."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": user}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, each ``[batch, tokens]``, the texts ending together."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        mask[index, width - len(row) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def greedy_answers(model: Any, tokenizer: Any, users: Sequence[str], *, tokens: int, batch: int = 50) -> list[str]:
    """The greedy answer to each user message, at most ``tokens`` long."""
    return answers(model, tokenizer, [render(tokenizer, user) for user in users], tokens=tokens, batch=batch)


@torch.inference_mode()
def answers(
    model: Any,
    tokenizer: Any,
    messages: Sequence[Sequence[int]],
    *,
    tokens: int,
    batch: int = 50,
    sampled: bool = False,
) -> list[str]:
    """The answer to each message, given as token ids: greedy, or drawn at temperature 1; at most ``tokens`` long."""
    said: list[str] = []
    device = next(model.parameters()).device
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    for at in range(0, len(messages), batch):
        inputs = left_padded(messages[at : at + batch], tokenizer.pad_token_id, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = model.generate(**inputs, **how, max_new_tokens=tokens, pad_token_id=tokenizer.pad_token_id)
        said += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said
