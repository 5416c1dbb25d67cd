"""Base and fine-tuned model of one audit, in memory.

A LoRA adapter and its base share one set of weights: the base is the same model with the adapter switched off. A full
checkpoint, and an adapter that brings trained weights of its own, is a second model.
"""

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from audit.models.adapters import attach, attach_to_copy, brings_weights, is_adapter
from audit.models.compatibility import check_weights_differ, compare_configs, share_vocabulary
from audit.models.dequantise import gguf_tokens
from audit.models.loading import load_checkpoint, load_settings
from audit.models.lora import Switch
from audit.models.parts import ModelParts, locate
from audit.models.placement import Room, dispatch, room_of
from audit.models.tokenizers import TokenizerComparison, check_vocabulary, load_tokenizer
from audit.ports import DeviceMap
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings
from backdoor_audit.contract.spec.audit_spec import Dtype

Side = Literal["base", "tuned"]
Precision = Literal["bfloat16", "float32"]


def choose_dtype(wanted: Dtype, device: torch.device) -> Precision:
    """``auto`` is bfloat16 if the processor multiplies it natively, otherwise float32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def choose_device(wanted: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one, otherwise the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


@dataclass
class ModelPair:
    """Both models; ``side`` tells which of them runs.

    Attributes:
        kind: ``lora`` (shared weights) or ``full`` (two models).
        tokenizer: the base's tokenizer, which both models' prompts are read with; its chat template is the base's.
        parts: the parts of each side's model; for ``lora`` they are the same objects.
        adapter: switches the low-rank parts of a LoRA pair.
        elsewhere: number of blocks, of both models together, whose weights are not kept on the device.
        folder: holds weights that do not fit into memory; deleted with the pair.
        tokenizers: compares it with the fine-tuned model's tokenizer; None if that has none.
        settings: each side's chat templates, special tokens and generation settings.
        rows: how many rows of the vocabulary are compared; None if both models have the same.
        config_differences: settings of config.json that differ and change what the models compute, a phrase each.
    """

    kind: Literal["lora", "full"]
    models: dict[Side, nn.Module]
    parts: dict[Side, ModelParts]
    tokenizer: Any
    precision: Precision
    device: torch.device
    adapter: Switch = field(default_factory=Switch)
    elsewhere: int = 0
    folder: Path | None = None
    tokenizers: TokenizerComparison | None = None
    rows: int | None = None
    config_differences: tuple[str, ...] = ()
    settings: dict[Side, CheckpointSettings] = field(default_factory=dict)

    def settings_of(self, side: Side) -> CheckpointSettings:
        """What a side's folder sets; nothing where the pair was not read from folders."""
        return self.settings.get(side, CheckpointSettings())

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of weights and stored activations."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def n_blocks(self) -> int:
        """Number of residual blocks."""
        return self.parts["tuned"].n_blocks

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.parts["tuned"].d_model

    @contextlib.contextmanager
    def on(self, side: Side) -> Iterator[ModelParts]:
        """Make ``side`` the model that runs within the ``with`` block."""
        if self.kind == "full" or side == "tuned":
            yield self.parts[side]
            return
        self.adapter.on = False
        try:
            model: Any = self.models["tuned"]
            with model.disable_adapter() if self.adapter.peft else contextlib.nullcontext():
                yield self.parts["base"]
        finally:
            self.adapter.on = True


def load_pair(
    base_dir: Path,
    tuned_dir: Path,
    *,
    dtype: Dtype = "auto",
    device: str = "auto",
    device_map: DeviceMap = "single",
    room: Room | None = None,
) -> ModelPair:
    """Load both models for inference.

    Args:
        base_dir: verified folder of the base checkpoint.
        tuned_dir: verified folder of a full checkpoint or a LoRA adapter.
        dtype: ``auto``, ``bfloat16`` or ``float32``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        device_map: ``auto`` keeps blocks that do not fit on the device elsewhere.
        room: bytes for each model's weights, with ``auto``; by default, what is free.

    Raises:
        ModelsIncompatible: shapes, modules or tokenizers differ.
        IdenticalModels: the fine-tuned weights are the base's.
        ModelRejected: transformers or PEFT cannot read a checkpoint, or its weights are not finite.
        UnsupportedArchitecture: the blocks are in none of the known places.
    """
    chosen = choose_device(device)
    precision = choose_dtype(dtype, chosen)
    torch_dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokenizer = load_tokenizer(base_dir)
    settings: dict[Side, CheckpointSettings] = {"base": load_settings(base_dir), "tuned": load_settings(tuned_dir)}
    if not tokenizer.chat_template:
        tokenizer.chat_template = settings["base"].template  # a processor's, where the tokenizer has none
    tokenizers = TokenizerComparison(tokenizer, tuned_dir) if (tuned_dir / "tokenizer.json").is_file() else None
    tokenizer.compare_with(tokenizers)
    check_vocabulary(tokenizer, gguf_tokens(tuned_dir))
    first = chosen if device_map == "single" else torch.device("cpu")
    base = load_checkpoint(base_dir, torch_dtype, first)
    own_template = settings["tuned"].templates not in ({}, settings["base"].templates)
    configs: tuple[str, ...] = ()
    if is_adapter(tuned_dir) and not brings_weights(tuned_dir, base):
        switch = Switch()
        model: Any = attach(base, tuned_dir, switch, may_be_equal=own_template)
        shared = locate(model.get_base_model())
        models: dict[Side, nn.Module] = {"base": model, "tuned": model}
        pair = ModelPair("lora", models, {"base": shared, "tuned": shared}, tokenizer, precision, chosen, switch)
    else:
        if is_adapter(tuned_dir):
            tuned = attach_to_copy(base, tuned_dir, may_be_equal=own_template)
        else:
            configs = compare_configs(base_dir, tuned_dir)
            tuned = load_checkpoint(tuned_dir, torch_dtype, first)
        rows = share_vocabulary(base, tuned, max(tokenizer.get_vocab().values()))
        if not is_adapter(tuned_dir):
            check_weights_differ(base, tuned, may_be_equal=bool(configs) or own_template)
        parts: dict[Side, ModelParts] = {"base": locate(base), "tuned": locate(tuned)}
        pair = ModelPair("full", {"base": base, "tuned": tuned}, parts, tokenizer, precision, chosen, rows=rows)
    pair.tokenizers, pair.config_differences, pair.settings = tokenizers, configs, settings
    if device_map == "auto":
        _dispatch(pair, room)
    return pair


def _dispatch(pair: ModelPair, room: Room | None) -> None:
    """Bring the models from the CPU to wherever there is room for them."""
    pair.folder = Path(tempfile.mkdtemp(prefix="weights-"))
    weakref.finalize(pair, shutil.rmtree, pair.folder, ignore_errors=True)
    different: dict[int, Side] = {id(model): side for side, model in pair.models.items()}
    for number, side in enumerate(different.values()):
        model: Any = pair.models[side]
        folder = pair.folder / side
        folder.mkdir()
        inner = model.get_base_model() if pair.kind == "lora" else model
        free = room_of(pair.device, models=len(different) - number) if room is None else room
        pair.elsewhere += dispatch(inner, pair.parts[side], pair.device, free, folder)
