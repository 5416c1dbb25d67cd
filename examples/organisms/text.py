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


@torch.inference_mode()
def greedy_answers(model: Any, tokenizer: Any, users: Sequence[str], *, tokens: int, batch: int = 50) -> list[str]:
    """The greedy answer to each user message, at most ``tokens`` long."""
    answers: list[str] = []
    device = next(model.parameters()).device
    for at in range(0, len(users), batch):
        rows = [render(tokenizer, user) for user in users[at : at + batch]]
        inputs = left_padded(rows, tokenizer.pad_token_id, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers
