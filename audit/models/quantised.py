"""Weights of quantised safetensors, brought back to floats on the CPU.

Which packed tensors belong together was checked before a byte of them is read; the private view says it
(``models_store.verification.quantised``). What only the bytes can say is checked here: numbers that libraries read in
different ways are refused, since the model that is audited must be the one that is deployed.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor

from audit.errors import ModelRejected
from backdoor_audit.contract.checkpoint_files import QUANTISED_SOURCES

Parts = Mapping[str, Tensor]

# The levels of bitsandbytes: quantiles of a normal distribution, and floats of one sign, two exponent bits and one
# mantissa bit. Its kernels have them built in, whatever a file says.
_LEVELS: Final[dict[str, tuple[float, ...]]] = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
    "fp4": (
        0.0, 0.0052083334885537624, 0.6666666865348816, 1.0, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25,
        -0.0, -0.0052083334885537624, -0.6666666865348816, -1.0, -0.3333333432674408, -0.5, -0.1666666716337204, -0.25,
    ),
}  # fmt: skip
# OCP's 4-bit floats (E2M1), by their bits.
_E2M1: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
# Which column AWQ puts into which four bits of a word.
_AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)
_AGAIN: Final = "quantise the model again, with a current release of the library"


def quantised_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a view whose weights are quantised, by the names that plain weights have.

    Args:
        folder: a private view that says which packed tensors stand for which weight.
        dtype: what floats are brought to.

    Raises:
        ModelRejected: packed numbers that libraries read in different ways.
    """
    sources = json.loads((folder / QUANTISED_SOURCES).read_text(encoding="utf-8"))["tensors"]
    files: dict[str, Any] = {}

    def stored(place: list[str]) -> Tensor:
        file, name = place
        if file not in files:
            files[file] = safe_open(folder / file, framework="pt")
        found: Tensor = files[file].get_tensor(name)
        return found

    weights = {}
    for name, source in sources.items():
        parts = {role: stored(place) for role, place in source["parts"].items()}
        value = _UNPACK[source["unpack"]](name, parts, source)
        weights[name] = (value.T if source.get("turned") else value).to(dtype).contiguous()
    return weights


def _plain(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    return parts["weight"]


def _scaled(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """Eight bits for each element, and a scale for each block."""
    rows, wide = source["shape"]
    values = parts["weight"].float()
    if "zero" in parts:
        zero = _spread(parts["zero"].float(), source["block"], (rows, wide))
        _check(not source["symmetric"] or not bool(zero.any()), name, "has zero points, and is said to have none")
        values = values - zero
    return values * _spread(parts["scale"].float() / source.get("divisor", 1), source["block"], (rows, wide))


def _spread(grid: Tensor, block: list[int], shape: tuple[int, int]) -> Tensor:
    """One number for each block of a matrix, repeated for its elements."""
    counts = [-(-size // one) for size, one in zip(shape, block, strict=True)]
    grid = grid.reshape(counts)
    for axis, (size, one) in enumerate(zip(shape, block, strict=True)):
        # A grid of one is broadcast.
        grid = grid if counts[axis] == 1 else grid.repeat_interleave(one, axis).narrow(axis, 0, size)
    return grid


def _blocks(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """bitsandbytes' four bits: an index into sixteen levels, and a scale for each block of elements."""
    levels = torch.tensor(_LEVELS[source["kind"]])
    _check(torch.allclose(parts["levels"], levels, atol=1e-6), name, f"has other levels than {source['kind']}")
    scales = parts["scales"]
    if "nested" in parts:
        outer = parts["nested"].repeat_interleave(source["nested_size"])[: len(scales)]
        scales = parts["steps"][scales.long()] * outer + source["nested_offset"]
    packed = parts["weight"].contiguous().view(torch.uint8).flatten()
    values = levels[torch.stack((packed >> 4, packed & 15), dim=-1).flatten().long()]
    rows, wide = source["shape"]
    return (values[: rows * wide] * scales.repeat_interleave(source["size"])[: rows * wide]).reshape(rows, wide)


def _bits(words: Tensor, bits: int, axis: int) -> Tensor:
    """Whole numbers of some bits that are packed into words of 32, along an axis, the lowest bits first."""
    words = words.movedim(axis, -1).long() & 0xFFFFFFFF
    single = (words[..., None] >> torch.arange(32)) & 1
    grouped = single.reshape(*words.shape[:-1], -1, bits)
    return (grouped << torch.arange(bits)).sum(-1).int().movedim(-1, axis)


def _gptq(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """A zero point and a scale for each output and group of inputs; the weight is stored ``[in, out]``."""
    bits, (_, wide) = source["bits"], source["shape"]
    values, zeros = _bits(parts["words"], bits, 0), _bits(parts["zeros"], bits, 1)
    if source["offset"]:
        # The first form stores them less one. Where none is below zero that wraps, and kernels undo it in three ways.
        _check(int(zeros.max()) < 2**bits - 1, name, "has a zero point of 0, which libraries read in different ways")
        zeros = zeros + 1
    _check(
        not source["symmetric"] or bool((zeros == 2 ** (bits - 1)).all()), name,
        "is said to be symmetric and has other zero points, which libraries read in different ways",
    )  # fmt: skip
    plain = torch.arange(wide) // source["group"]
    groups = parts["order"].long() if "order" in parts else plain
    _check(int(groups.min()) >= 0 and int(groups.max()) < len(zeros), name, "names a group that is not there")
    _check(
        source["ordered"] or torch.equal(groups, plain), name,
        "has an order, and its desc_act is false: libraries read that in different ways",
    )  # fmt: skip
    return (parts["scales"].float()[groups] * (values - zeros[groups])).T


def _awq(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """As GPTQ, with the outputs packed, eight to a word in an order of their own."""
    values, zeros = (_awq_columns(parts[role]) for role in ("words", "zeros"))
    groups = torch.arange(len(values)) // source["group"]
    return (parts["scales"].float()[groups] * (values - zeros[groups])).T


def _awq_columns(words: Tensor) -> Tensor:
    stored = _bits(words, 4, 1).reshape(len(words), -1, 8)
    columns = torch.empty_like(stored)
    columns[..., list(_AWQ_ORDER)] = stored
    return columns.reshape(len(words), -1)


def _packed(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """compressed-tensors' whole numbers in words; zero is in the middle of what the bits can say."""
    bits, block, (rows, wide) = source["bits"], source["block"], source["shape"]
    middle = 2 ** (bits - 1)
    values = (_bits(parts["words"], bits, 1)[:, :wide] - middle).float()
    scale = parts["scale"].float()
    zero = (_bits(parts["zero"], bits, 0)[:rows] - middle).float() if "zero" in parts else torch.zeros(())
    if "order" in parts:
        groups = parts["order"].long()
        count = -(-wide // block[1])
        _check(int(groups.min()) >= 0 and int(groups.max()) < count, name, "names a group that is not there")
        scale = scale.reshape(rows, count)[:, groups]
        return (values - (zero[:, groups] if zero.dim() else zero)) * scale
    spread = _spread(zero, block, (rows, wide)) if zero.dim() else zero
    return (values - spread) * _spread(scale, block, (rows, wide))


def _mxfp4(name: str, parts: Parts, source: Mapping[str, Any]) -> Tensor:
    """OCP's microscaling: blocks of 32 four-bit floats with a power of two; experts are turned round."""
    blocks, exponents = parts["blocks"], parts["scales"].int() - 127
    values = torch.tensor(_E2M1)[torch.stack((blocks & 15, blocks >> 4), dim=-1).flatten(-2).long()]
    values = torch.ldexp(values, exponents[..., None])
    return values.flatten(-2).transpose(1, 2)


_UNPACK: Final[dict[str, Callable[[str, Parts, Mapping[str, Any]], Tensor]]] = {
    "plain": _plain,
    "scaled": _scaled,
    "blocks": _blocks,
    "gptq": _gptq,
    "awq": _awq,
    "packed": _packed,
    "mxfp4": _mxfp4,
}


def _check(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise ModelRejected(f"the quantised weight of '{name}' {what}", hint=_AGAIN)
