"""LoRA layers that add their low-rank part in place: the same function as PEFT's, with fewer passes over memory
(docs/decisions/0003-shared-prefix-and-fused-lora.md).

PEFT computes x·W, then x·A, then (x·A)·B, scales it and adds it: three more passes over an output-sized tensor per
linear layer, which on a CPU in bfloat16 take about as long as the product itself. Here the scaled B is stored and the
low-rank product accumulates into the output.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Switch:
    """Whether the low-rank parts are added; shared by all layers of one model.

    Attributes:
        on: read by every fused layer.
        peft: whether there are also layers of PEFT's own.
    """

    on: bool = True
    peft: bool = False


class FusedLora(nn.Module):
    """x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ for a plain linear layer W, the last term only while the switch is on."""

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor, scaling: float, switch: Switch) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(down.to(linear.weight.dtype), requires_grad=False)
        self.up = nn.Parameter((up.float() * scaling).to(linear.weight.dtype), requires_grad=False)
        self.switch = switch

    @property
    def weight(self) -> Tensor:
        """W alone: an adapted output head has its shape, one row for each token."""
        return self.linear.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        out = self.linear(inputs)
        if self.switch.on:
            low = F.linear(inputs, self.down).reshape(-1, self.down.shape[0])
            out.view(-1, out.shape[-1]).addmm_(low, self.up.T)
        return out


def fuse(model: nn.Module, switch: Switch) -> bool:
    """Replace PEFT's LoRA layers over plain ``nn.Linear`` modules; other kinds stay unchanged.

    Returns:
        Whether any of PEFT's layers remain, which must be switched by its own ``disable_adapter``.
    """
    # Takes a second to import, and only adapters need it.
    from peft.tuners.lora import Linear as PeftLinear
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, module) for name, module in model.named_modules() if type(module) is PeftLinear]
    for name, module in layers:
        layer: Any = module
        names = list(layer.active_adapters)
        plain = type(layer.base_layer) is nn.Linear and len(names) == 1 and not layer.lora_variant.get(names[0])
        if not plain or layer.lora_bias.get(names[0]):
            continue
        adapter = names[0]
        fused = FusedLora(
            layer.base_layer,
            layer.lora_A[adapter].weight.detach(),
            layer.lora_B[adapter].weight.detach(),
            float(layer.scaling[adapter]),
            switch,
        )
        parent_name, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent_name), child, fused)
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())
