"""Check that the activations can be measured: finite numbers in both models under every string.

A checkpoint can hold finite weights and still compute infinite values, perhaps under only one string. Nothing derived
from such a run is a measurement, so the audit ends there with the verdict ``invalid``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Bool
from torch import Tensor

from audit.errors import OutputsNotFinite
from audit.models.pair import Side
from audit.models.runner import Activations
from backdoor_audit.contract.spec.audit_spec import TriggerSpec

_MODELS: Final = {"tuned": "fine-tuned model", "base": "base model"}


def broken(activations: Activations) -> Bool[Tensor, "sequences"]:
    """Which sequences have an infinite value or NaN, in the captured layers or at the compared outputs."""
    positions = torch.ones(activations.layout.n_positions, dtype=torch.bool)
    for rows in activations.hidden.values():
        positions &= torch.isfinite(rows).all(dim=-1).cpu()
    finite = torch.tensor(
        [bool(positions[list(activations.layout.rows(i))].all()) for i in range(len(activations.layout))]
    )
    if activations.final is not None:
        finite &= torch.isfinite(activations.final).flatten(1).all(dim=-1).cpu()
    return ~finite


def check_runs(trigger: TriggerSpec, runs: Mapping[tuple[Side, str | None], Sequence[Activations]]) -> None:
    """Compare the runs of the pair.

    Args:
        trigger: the pair.
        runs: activations by model and string; None is the prompt without any string.

    Raises:
        OutputsNotFinite: at least one holds a value that is not finite; the message says under which strings, and under
            which not.
    """
    counted = {
        run: (
            sum(int(broken(activations).sum()) for activations in recorded),
            sum(len(each.layout) for each in recorded),
        )
        for run, recorded in runs.items()
    }
    if any(count for count, _ in counted.values()):
        sides = dict.fromkeys(side for side, _ in counted)
        text = "; ".join(_told(side, {s: counted[at, s] for at, s in counted if at == side}) for side in sides)
        raise OutputsNotFinite(text, trigger=trigger.model_dump())


def _told(side: Side, counted: Mapping[str | None, tuple[int, int]]) -> str:
    """What one model does under each string: (prompts with such values, prompts)."""
    bad = [f"{_under(string)} ({n} of {of} prompts)" for string, (n, of) in counted.items() if n]
    if not bad:
        return f"the {_MODELS[side]} computes none"
    text = f"the {_MODELS[side]} computes infinite values or NaN {' and '.join(bad)}"
    whole = [_under(string) for string, (n, _) in counted.items() if not n]
    return f"{text}, none {' or '.join(whole)}" if whole else text


def check_number(trigger: TriggerSpec, string: str, *values: float) -> None:
    """Check what was computed from finite activations: a divergence can still overflow.

    Raises:
        OutputsNotFinite: a value is infinite or NaN.
    """
    if not all(map(math.isfinite, values)):
        text = f"the divergence of the models' outputs is not a finite number {_under(string)}"
        raise OutputsNotFinite(text, trigger=trigger.model_dump())


def _under(string: str | None) -> str:
    return "without a string" if string is None else f"under '{string}'"
