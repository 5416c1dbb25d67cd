"""Where a model's weights are kept: on one device or, if they do not fit, its blocks wherever there is memory
(docs/decisions/0066-blocks-lie-where-there-is-room.md).

Embeddings, final norm and head stay on the device. Blocks are placed on the device as far as they fit, then on other
GPUs, then in the machine's memory, then in files. Hidden states return to the device after each block, so the rest of
the audit notices no difference. accelerate moves the weights (``dispatch_model``).
"""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from torch import nn

from audit.models.parts import ModelParts

Room = Mapping[int | str, int]
"""Bytes that weights may take, by the number of a GPU, ``cpu`` and ``disk``."""

_WEIGHTS_SHARE: Final = 0.8
"""Share of the free memory that is used for weights; the rest is for activations."""


def room_of(device: torch.device, *, models: int) -> Room:
    """What is free now, for each of the models that are still to be placed.

    A device that is named by its number is used alone, with the machine's memory; other workers may use the other
    devices.
    """
    # accelerate takes a second to import, and is needed only where weights do not fit.
    from accelerate.utils import get_max_memory

    free: dict[int | str, int]
    free = {"cpu": psutil.virtual_memory().available} if device.type == "cpu" else get_max_memory()
    if device.index is not None:
        free = {where: size for where, size in free.items() if where in (device.index, "cpu")}
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY and "cpu" in free:
        free["cpu"] = min(free["cpu"], limit)
    return {where: int(size * _WEIGHTS_SHARE / models) for where, size in free.items()}


def dispatch(model: nn.Module, parts: ModelParts, device: torch.device, room: Room, folder: Path) -> int:
    """Place a model where there is room for it.

    Args:
        model: on the CPU, complete, including adapters; it is modified.
        parts: its parts.
        device: where it runs.
        room: bytes for its weights.
        folder: an empty folder of this model alone, for weights that fit nowhere else.

    Returns:
        How many blocks are not on the device.
    """
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.hooks import AlignDevicesHook

    main = _name(device)
    path = next(name for name, module in model.named_modules() if module is parts.blocks)
    rest = _others(model, f"{path}.")
    taken = sum(_bytes(model.get_submodule(name), recurse=False) for name in rest)
    left = {where: max(0, size - taken) if where == main else size for where, size in room.items()}
    device_of_block: Mapping[str, int | str] = infer_auto_device_map(
        parts.blocks,
        max_memory=dict(left),
        no_split_module_classes=sorted({type(block).__name__ for block in parts.blocks}),
        clean_result=False,
    )
    blocks = {f"{path}.{name}": where for name, where in device_of_block.items()}
    elsewhere = sum(where != main for where in blocks.values())
    if not elsewhere:
        model.to(device)
        return 0
    movable: Any = model
    dispatch_model(
        movable,
        device_map={**dict.fromkeys(rest, main), **blocks},
        main_device=main,
        offload_dir=str(folder),
        skip_keys=getattr(model, "_skip_keys_device_placement", None),
    )
    for block in parts.blocks:
        hook = getattr(block, "_hf_hook", None)
        if isinstance(hook, AlignDevicesHook):
            hook.io_same_device = True
    return elsewhere


def _name(device: torch.device) -> int | str:
    return "cpu" if device.type == "cpu" else (device.index or 0)


def _others(model: nn.Module, blocks: str) -> list[str]:
    """Modules outside of the blocks that hold weights or buffers of their own."""
    return [
        name for name, module in model.named_modules() if not name.startswith(blocks) and _bytes(module, recurse=False)
    ]


def _bytes(module: nn.Module, *, recurse: bool) -> int:
    held = [*module.parameters(recurse=recurse), *module.buffers(recurse=recurse)]
    return sum(value.numel() * value.element_size() for value in held)
