"""Base and fine-tuned model of one audit, in memory.

A LoRA adapter and its base share one set of weights: the base is the same model with the adapter switched off. A full
checkpoint is a second model.
"""

import contextlib
import json
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from tokenizers import Tokenizer as TokenizerFile
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from audit.errors import IdenticalModels, ModelRejected, ModelsIncompatible
from audit.models.lora import Switch, fuse
from audit.models.parts import ModelParts, locate
from audit.models.placement import Room, dispatch, room_of
from audit.ports import DeviceMap
from audit.translate import is_out_of_memory
from backdoor_audit.contract.spec import Dtype

Side = Literal["base", "tuned"]
Precision = Literal["bfloat16", "float32"]


def choose_dtype(wanted: Dtype, device: torch.device) -> Precision:
    """``auto`` is bfloat16 where the processor multiplies it natively, else float32."""
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
    """``auto`` is the first CUDA device where there is one, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter."""
    return (folder / "adapter_config.json").is_file()


@dataclass
class ModelPair:
    """Both models; ``side`` says which of them runs.

    Attributes:
        kind: ``lora`` (shared weights) or ``full``.
        tokenizer: the base's tokenizer; the fine-tuned model's is the same.
        parts: the parts of each side's model; for ``lora`` they are the same objects.
        adapter: switches the low-rank parts of a LoRA pair.
        elsewhere: blocks, of both models together, whose weights lie elsewhere than on the device.
        folder: holds weights that fit into no memory; it goes with the pair.
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
        """Make ``side`` the model that runs inside the block."""
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
        device_map: ``auto`` lets blocks that do not fit on the device lie elsewhere.
        room: bytes for each model's weights, with ``auto``; by default what is free.

    Raises:
        ModelsIncompatible: shapes, modules or tokenizers differ.
        IdenticalModels: the fine-tuned weights are the base's.
        ModelRejected: transformers or PEFT cannot read a checkpoint, or its weights are not finite.
        UnsupportedArchitecture: the blocks are in none of the known places.
    """
    chosen = choose_device(device)
    precision = choose_dtype(dtype, chosen)
    torch_dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokenizer = _tokenizer_of(base_dir, tuned_dir)
    first = chosen if device_map == "single" else torch.device("cpu")
    base = _load_full(base_dir, torch_dtype, first)
    if is_adapter(tuned_dir):
        tuned = _attach_adapter(base, tuned_dir)
        switch = Switch()
        switch.peft = fuse(tuned, switch)
        shared = locate(tuned.get_base_model())  # type: ignore[operator]
        models: dict[Side, nn.Module] = {"base": tuned, "tuned": tuned}
        pair = ModelPair("lora", models, {"base": shared, "tuned": shared}, tokenizer, precision, chosen, switch)
    else:
        _same_shape(base_dir, tuned_dir)
        tuned = _load_full(tuned_dir, torch_dtype, first)
        _different_weights(base, tuned)
        parts: dict[Side, ModelParts] = {"base": locate(base), "tuned": locate(tuned)}
        pair = ModelPair("full", {"base": base, "tuned": tuned}, parts, tokenizer, precision, chosen)
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
        found = room_of(pair.device, models=len(different) - number) if room is None else room
        pair.elsewhere += dispatch(inner, pair.parts[side], pair.device, found, folder)


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's fast tokenizer.

    Raises:
        ModelRejected: there is none.
    """
    try:
        with _panics_as_errors():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelRejected(f"the tokenizer cannot be read: {type(error).__name__}", hint="save it again") from error
    if not tokenizer.is_fast:
        raise ModelRejected("the checkpoint has no fast tokenizer (tokenizer.json)", hint="add tokenizer.json")
    return tokenizer


@contextlib.contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Raise ``RuntimeError`` where the tokenizers library panics, which is no ``Exception`` and has no public class."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the tokenizers library panicked") from error


def _tokenizer_of(base_dir: Path, tuned_dir: Path) -> Any:
    """The base's tokenizer; where only the fine-tuned model has a chat template, with that template."""
    tokenizer = load_tokenizer(base_dir)
    if (tuned_dir / "tokenizer.json").is_file():
        _same_tokenizer(base_dir, tuned_dir)
        if not tokenizer.chat_template:
            tokenizer.chat_template = load_tokenizer(tuned_dir).chat_template
    return tokenizer


def _load_full(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    loader: Any = AutoModelForCausalLM
    try:
        model, loading = loader.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # a stranger's configuration makes transformers raise anything
        if is_out_of_memory(error):
            raise
        raise ModelRejected(
            f"the checkpoint cannot be loaded: {type(error).__name__}", hint="check that it was saved whole"
        ) from error
    if loading["missing_keys"]:  # transformers fills them with random numbers
        raise ModelRejected(
            f"the checkpoint has no weights for '{min(loading['missing_keys'])}'", hint="check that it was saved whole"
        )
    _check_finite(model)
    moved: nn.Module = model.to(device)
    return moved.eval().requires_grad_(False)


def _attach_adapter(base: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelRejected("the adapter has no adapter_model.safetensors", hint="save it as safetensors")
    try:
        with warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed; nothing that an audit's reader could act on.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # refused below
            model = PeftModel.from_pretrained(base, str(folder), is_trainable=False, local_files_only=True)
    except (ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelsIncompatible(
            "the adapter does not fit this base: its modules or shapes differ", hint="name the base it was trained on"
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelRejected(
            f"the adapter cannot be loaded: {type(error).__name__}", hint="check that it was saved whole"
        ) from error
    _check_adapter_keys(model, folder / "adapter_model.safetensors")
    adapter = {name: value for name, value in model.named_parameters() if "lora_" in name}
    _check_finite(model, only="lora_")
    if not any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name or "lora_embedding_B" in name):
        raise IdenticalModels(
            "the adapter changes nothing: all its B matrices are zero", hint="was the right checkpoint saved?"
        )
    return model.eval().requires_grad_(False)


def _check_adapter_keys(model: nn.Module, weights: Path) -> None:
    """Refuse an adapter whose matrices are not exactly those that its config puts on this base.

    PEFT only warns: what is missing would stay random, what finds no place (more blocks than the base has) is dropped.
    """
    from peft import get_peft_model_state_dict

    with safe_open(weights, framework="pt") as file:
        given = {name for name in file.keys() if "lora_" in name}  # noqa: SIM118 (a handle, not a dict)
    wanted = {name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if "lora_" in name}
    if given != wanted:
        name = min(given ^ wanted)
        which = "the adapter has no weights for" if name in wanted else "this base has no place for the adapter's"
        raise ModelsIncompatible(f"{which} '{name}'", hint="name the base that the adapter was trained on")


def _check_finite(model: nn.Module, only: str = "") -> None:
    for name, value in model.named_parameters():
        if only in name and not bool(torch.isfinite(value.detach()).all()):
            raise ModelRejected(f"the weights of '{name}' hold NaN or infinity", hint="the checkpoint is damaged")


def _same_shape(base_dir: Path, tuned_dir: Path) -> None:
    """Compare the configs before the second model is loaded."""
    keys = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    configs = [AutoConfig.from_pretrained(folder, local_files_only=True) for folder in (base_dir, tuned_dir)]
    for key in keys:
        values = [getattr(config.get_text_config(), key, None) for config in configs]
        if values[0] != values[1]:
            raise ModelsIncompatible(
                f"'{key}' differs: {values[0]} in the base, {values[1]} in the fine-tuned model",
                hint="name the base that this checkpoint was fine-tuned from",
            )


def _same_tokenizer(base_dir: Path, tuned_dir: Path) -> None:
    """A fine-tuned checkpoint that brings another vocabulary is refused."""
    files = [folder / "tokenizer.json" for folder in (base_dir, tuned_dir)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ModelRejected("the base has no tokenizer.json", hint="add it")
    try:  # read and written by the same library: older ones wrote the same merges in another form
        with _panics_as_errors():
            contents = [json.loads(TokenizerFile.from_file(str(file)).to_str()) for file in files]
    except Exception as error:
        raise ModelRejected("a tokenizer.json cannot be read", hint="save it again") from error
    for part in ("model", "added_tokens", "pre_tokenizer", "normalizer"):
        if contents[0].get(part) != contents[1].get(part):
            raise ModelsIncompatible(
                f"the tokenizers differ in '{part}'", hint="an audit compares models that read the same tokens"
            )


def _different_weights(base: nn.Module, tuned: nn.Module) -> None:
    ours, others = dict(base.named_parameters()), dict(tuned.named_parameters())
    for name in sorted(ours.keys() | others.keys()):
        if name not in ours or name not in others or ours[name].shape != others[name].shape:
            raise ModelsIncompatible(
                f"the weights of '{name}' have no counterpart of the same shape",
                hint="name the base that this checkpoint was fine-tuned from",
            )
    if any(not torch.equal(value, others[name]) for name, value in ours.items()):
        return
    raise IdenticalModels("base and fine-tuned model have the same weights", hint="was the right checkpoint saved?")
