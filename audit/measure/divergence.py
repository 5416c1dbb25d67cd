"""Kullback–Leibler divergences between output distributions, in nats, from the head's inputs.

Every distribution is a float32 log-softmax over the vocabulary. A carrier's divergence is the sum over the compared
outputs: the last prompt position and every forced token of the clean continuation.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audit.models.parts import ModelParts

# Rows of log-probabilities held at once; [512, 49k] float32 is 100 MB.
_ROWS = 512
_CACHED_ROWS = 32


def kl(log_p: Float[Tensor, "*rows vocabulary"], log_q: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows"]:
    """KL(p‖q) = Σ p·(log p − log q), nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def log_probabilities(parts: ModelParts, final: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocabulary"]:
    """Float32 log-softmax of the logits of the head's inputs."""
    flat = final.reshape(-1, final.shape[-1])
    return F.log_softmax(parts.logits(flat), dim=-1).reshape(*final.shape[:-1], -1)


@torch.no_grad()
def carrier_kl(
    parts: ModelParts,
    p: Float[Tensor, "carriers outputs d_model"],
    q: Float[Tensor, "carriers outputs d_model"],
    device: torch.device | None = None,
) -> Float[Tensor, "carriers"]:
    """KL(p‖q) per carrier, summed over its outputs, nats, from both sides' head inputs."""
    divergences = torch.empty(len(q))
    step = max(1, _ROWS // q.shape[1])
    for start in range(0, len(q), step):
        part = slice(start, start + step)
        logits_p, logits_q = (parts.logits(side[part].flatten(0, 1).to(device)) for side in (p, q))
        divergences[part] = kl_of_logits(logits_p, logits_q).reshape(-1, q.shape[1]).sum(-1).cpu()
    return divergences


def kl_of_logits(p: Float[Tensor, "rows vocabulary"], q: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows"]:
    """KL of the softmaxes: Σ softmax(p)·(p − q) − (logsumexp p − logsumexp q); a few rows at a time stay in cache."""
    divergences = []
    for rows_p, rows_q in zip(torch.split(p, _CACHED_ROWS), torch.split(q, _CACHED_ROWS), strict=True):
        norm_p = rows_p.logsumexp(-1)
        weights = (rows_p - norm_p.unsqueeze(-1)).exp_()
        divergences.append(torch.linalg.vecdot(weights, rows_p - rows_q) - (norm_p - rows_q.logsumexp(-1)))
    return torch.cat(divergences)
