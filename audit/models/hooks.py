"""Watching and skipping blocks while a model runs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from audit.models.parts import ModelParts


class StopForward(Exception):
    """All requested outputs have been collected."""


@contextlib.contextmanager
def watch(
    parts: ModelParts, layers: Sequence[int], *, stop: bool = False, keep_grad: bool = False
) -> Iterator[dict[int, Tensor]]:
    """Collect the outputs of blocks while the body runs; with ``stop``, end the run after the last of them."""
    seen: dict[int, Tensor] = {}
    last = max(layers, default=-1)

    def hook(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            seen[layer] = value
            if keep_grad:
                value.retain_grad()
            if stop and layer == last:
                raise StopForward

        return keep

    handles = [parts.blocks[layer].register_forward_hook(hook(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def skip_to(parts: ModelParts, layer: int, hidden: Tensor, as_tuple: bool) -> Iterator[None]:
    """Skip blocks 0 to ``layer``: they return ``hidden``."""

    def forward(*_args: Any, **_kwargs: Any) -> Any:
        return (hidden,) if as_tuple else hidden

    skipped = [parts.blocks[index] for index in range(layer + 1)]
    before = [vars(block).get("forward") for block in skipped]  # the hook of a block whose weights are kept elsewhere
    for block in skipped:
        block.forward = forward
    try:
        yield
    finally:
        for block, own in zip(skipped, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own


@contextlib.contextmanager
def contiguous_input(module: nn.Module) -> Iterator[None]:
    """Make a linear layer's inputs contiguous: for a sliced batch, matmul would copy the whole weight once per row."""
    handle = module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()
