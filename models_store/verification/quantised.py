"""Quantised safetensors: which packed tensors stand for which weight, checked without unpacking one.

``quantization_config`` says how weights are stored, in a dialect for each library. What it says is checked against a
list; each weight's packed tensors are checked against each other, and the weight that they stand for takes its place
in the header, so that the native table of the architecture is held against it as against any other (``tensor_names``).
The bytes are unpacked in the sandbox (``audit.models.quantised``), as the private view says.

A form that libraries read in different ways is refused: the model that is audited must be the one that is deployed.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn, TypeGuard

from models_store.errors import ModelRejected
from models_store.files import shown
from models_store.verification.adapters.patterns import Budget, Pattern, PatternRefused
from models_store.verification.headers import FLOATS, Tensor
from models_store.verification.strict_json import parse_object

Read = Callable[[Tensor], bytes]
Parts = Mapping[str, Tensor]
"""A module's packed tensors by their role: the end of their names."""


def _words(text: str) -> list[str]:
    return text.split()


KEY: Final = "quantization_config"
_FP8: Final = "F8_E4M3"
_SCALES: Final = FLOATS | {"F8_E8M0"}
_MAX_STATE_BYTES: Final = 4_096
_DEQUANTISE: Final = "dequantise the model first, or audit the one that it was quantised from"
_AGAIN: Final = "save the quantised model again; config.json and weights must belong together"
# What is recorded of how scales were found. Nothing that is read depends on it.
_RECORDS: Final = frozenset(
    _words("""
    _load_in_4bit _load_in_8bit act_group_aware activation_scale_ub auto_mapping_dict autoround_version backend
    batch_size block_name_to_quantize bnb_4bit_compute_dtype bnb_4bit_quant_storage bnb_4bit_use_double_quant
    cache_block_outputs damp_auto_increment damp_percent dataset dequantize disable_exllama do_fuse
    exllama_config failsafe fuse_max_seq_len global_compression_ratio hyb_act is_marlin_format iters
    llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight llm_int8_threshold low_gpu_mem_usage lr max_input_length
    meta minmax_lr model_file_base_name model_name_or_path model_seqlen modules_in_block_to_quantize
    module_name_preceding_first_block modules_to_fuse mse nsamples observer offload_to_disk pack_impl pad_token_id
    quantization_status quant_method_version run_compressed seqlen static_groups tokenizer true_sequential
    use_cuda_fp16 use_exllama use_optimized_inference version wait_for_submodule_replacement
    """)
)
_LISTS_OF_PLAIN: Final = ("modules_to_not_convert", "llm_int8_skip_modules", "ignore", "ignored_layers")
# Recorded for serving with rounded activations or a rounded cache, which an audit does not do.
_FOR_ACTIVATIONS: Final = (
    "activation_scale", "input_scale", "input_scale_ub", "input_zero_point", "output_scale", "k_scale", "v_scale",
)  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """What ``quantization_config`` says.

    Attributes:
        method: its ``quant_method``.
        form: how weights are stored, in words.
        document: its keys that are read, for the private view.
        plain: modules that are not quantised.
        options: what unpacking needs.
        roles: ends of the names of a module's packed tensors, of which the first marks a quantised module.
        rounds_activations: whether the model is served with rounded activations too.
    """

    method: str
    form: str
    document: Mapping[str, Any]
    plain: tuple[str, ...]
    options: Mapping[str, Any]
    roles: tuple[str, ...]
    rounds_activations: bool = False


@dataclass(frozen=True)
class Unpacked:
    """A header as it is once its packed tensors are unpacked.

    Attributes:
        tensors: by the names that plain weights have.
        sources: for each of them where its bytes lie and how to unpack them, for the sandbox.
    """

    tensors: dict[str, Tensor]
    sources: dict[str, dict[str, Any]]


@dataclass
class _Weight:
    """What one module's packed tensors stand for."""

    shape: tuple[int, ...]
    unpacking: str
    parts: Parts
    more: dict[str, Any] = field(default_factory=dict)


def read_scheme(given: Any) -> Scheme:
    """Check what ``quantization_config`` says.

    Raises:
        ModelRejected: a method, a form or a setting that is not on the list.
    """
    if not isinstance(given, Mapping):
        _refuse(f"'{KEY}' must be an object", _AGAIN)
    method = given.get("quant_method")
    if method is None and (given.get("load_in_4bit") is True or given.get("load_in_8bit") is True):
        method = "bitsandbytes"  # as transformers reads configurations that name no method
    if not isinstance(method, str) or method not in METHODS:
        word = "names no method" if method is None else f"names the method '{shown(str(method))}'"
        _refuse(f"'{KEY}' {word}; {', '.join(METHODS)} are read", _DEQUANTISE)
    scheme = METHODS[method](_Options(given))
    return replace(scheme, document={"quant_method": method, **scheme.document})


class _Options:
    """Reads the keys of a configuration; what is on and was neither read nor is a mere record is refused."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.read = given, {"quant_method": given.get("quant_method")}

    def one_of(self, key: str, *allowed: Any, default: Any = None) -> Any:
        """A value that must be one of these, whatever its capitals."""
        value = self.given.get(key)
        value = default if value is None else value
        value = value.lower() if isinstance(value, str) else value
        if not any(value == each and type(value) is type(each) for each in allowed):
            _refuse(
                f"'{KEY}.{key}' must be {' or '.join(str(each) for each in allowed)}, not {shown(repr(value))}",
                _DEQUANTISE,
            )
        self.read[key] = value
        return value

    def whole(self, key: str, default: int, *, least: int = 1) -> int:
        """A whole number."""
        value = self.given.get(key)
        value = default if value is None else value
        if type(value) is not int or not least <= value <= 2**20 or value == 0:
            _refuse(f"'{KEY}.{key}' must be a whole number", _AGAIN)
        self.read[key] = value
        return int(value)

    def names(self) -> tuple[str, ...]:
        """Modules that are left as they are."""
        found: list[str] = []
        for key in _LISTS_OF_PLAIN:
            value = self.given.get(key)
            if value is None:
                continue
            if not isinstance(value, list) or len(value) > 10_000 or not all(isinstance(one, str) for one in value):
                _refuse(f"'{KEY}.{key}' must be a list of names", _AGAIN)
            self.read[key] = value
            found += value
        return tuple(found)

    def done(self, form: str, roles: tuple[str, ...], *, rounds: bool = False, **options: Any) -> Scheme:
        """The scheme, once everything is read."""
        plain = self.names()
        for key, value in self.given.items():
            if key not in self.read and key not in _RECORDS and value not in (None, False, {}, []):
                _refuse(f"'{KEY}.{shown(key)}' is not on the list", _DEQUANTISE)
        document = {key: value for key, value in self.read.items() if key != "quant_method" and value is not None}
        return Scheme(str(self.read["quant_method"]), form, document, plain, options, roles, rounds)


def _fp8(options: _Options) -> Scheme:
    options.one_of("activation_scheme", "dynamic", "static", default="dynamic")
    options.one_of("fmt", "e4m3", "float8_e4m3fn", default="e4m3")
    options.one_of("scale_fmt", "float", "ue8m0", default="float")
    options.one_of("expert_dtype", "fp8", default="fp8")
    block = options.given.get("weight_block_size")
    if block is not None and not (_sizes(block) and len(block) == 2):
        _refuse(f"'{KEY}.weight_block_size' must be two whole numbers", _AGAIN)
    options.read["weight_block_size"] = block
    roles = ("weight", "weight_scale_inv", "weight_scale", *_FOR_ACTIVATIONS)
    return options.done("FP8 (fp8)", roles, rounds=True, block=block, unpack="scaled", marks=(_FP8,))


def _fbgemm(options: _Options) -> Scheme:
    roles = ("weight", "weight_scale", *_FOR_ACTIVATIONS)
    return options.done("FP8 (fbgemm_fp8)", roles, rounds=True, unpack="scaled", marks=(_FP8,))


def _bitsandbytes(options: _Options) -> Scheme:
    eight = options.one_of("load_in_8bit", True, False, default=False)
    four = options.one_of("load_in_4bit", True, False, default=False)
    if eight is four:
        _refuse(f"'{KEY}' must set one of load_in_8bit and load_in_4bit", _AGAIN)
    if eight:
        options.read["bnb_4bit_quant_type"] = None
        roles = ("weight", "SCB", "weight_format")
        return options.done("8-bit integers (bitsandbytes)", roles, rounds=True, unpack="int8", marks=("I8",))
    kind = options.one_of("bnb_4bit_quant_type", "nf4", "fp4", default="fp4")
    parts = (
        f"weight.quant_state.bitsandbytes__{kind}", "weight", "weight.absmax", "weight.quant_map",
        "weight.nested_absmax", "weight.nested_quant_map",
    )  # fmt: skip
    return options.done(f"4-bit {kind} (bitsandbytes)", parts, kind=kind, unpack="blocks", marks=("U8",))


def _gptq(options: _Options) -> Scheme:
    bits = options.one_of("bits", 2, 3, 4, 8)
    form = options.one_of("checkpoint_format", "gptq", "gptq_v2", default=options.given.get("format") or "gptq")
    options.read["format"] = form
    options.one_of("pack_dtype", "int32", "torch.int32", default="int32")
    options.one_of("method", "gptq", default="gptq")
    symmetric = options.one_of("sym", True, False, default=True)
    ordered = options.one_of("desc_act", True, False, default=False)
    options.one_of("lm_head", True, False, default=False)
    group = options.whole("group_size", 128, least=-1)
    return options.done(
        f"{bits}-bit integers (GPTQ)", ("qweight", "qzeros", "scales", "g_idx"), bits=bits, group=group,
        offset=1 if form == "gptq" else 0, symmetric=symmetric, ordered=ordered, unpack="gptq", marks=("I32",),
    )  # fmt: skip


def _awq(options: _Options) -> Scheme:
    bits = options.one_of("bits", 4, default=options.given.get("w_bit"))
    options.one_of("zero_point", True, default=True)
    options.one_of("version", "gemm", default=options.given.get("format") or "gemm")
    options.read |= {"format": "gemm", "w_bit": bits, "q_group_size": None}
    options.one_of("sym", False, True, default=False)
    options.one_of("lm_head", False, default=False)
    options.one_of("pack_dtype", "int32", "torch.int32", default="int32")
    options.one_of("method", "awq", default="awq")
    group = options.whole("group_size", options.given.get("q_group_size") or 128, least=-1)
    return options.done(
        "4-bit integers (AWQ)", ("qweight", "qzeros", "scales"), bits=bits, group=group, unpack="awq", marks=("I32",)
    )


_STRATEGIES: Final = ("tensor", "channel", "group", "block")
_NAIVE: Final = ("naive-quantized", "float-quantized", "int-quantized")


def _compressed(options: _Options) -> Scheme:
    form = options.one_of("format", *_NAIVE, "pack-quantized")
    groups = options.given.get("config_groups")
    sparsity = options.given.get("sparsity_config") or {}
    if not isinstance(sparsity, Mapping) or sparsity.get("format", "dense") != "dense":
        _refuse(f"'{KEY}.sparsity_config' packs weights that are not there", _DEQUANTISE)
    if not isinstance(groups, Mapping) or not groups or not all(isinstance(one, Mapping) for one in groups.values()):
        _refuse(f"'{KEY}.config_groups' must be an object of objects", _AGAIN)
    stored = [one.get("weights") for one in groups.values()]
    if len({str(one) for one in stored}) > 1 or not isinstance(stored[0], Mapping):
        _refuse(f"'{KEY}.config_groups' stores weights in several forms", _DEQUANTISE)
    if any(one.get("format", form) not in (form, None) for one in groups.values()):
        _refuse(f"'{KEY}.config_groups' stores weights in several forms", _DEQUANTISE)
    weights = _Options(stored[0])
    packed = form == "pack-quantized"
    kind = weights.one_of("type", *(("int",) if packed or form == "int-quantized" else ("float", "int")), default="int")
    bits = weights.one_of("num_bits", *((4, 8) if packed else (8,)))
    strategy = weights.one_of("strategy", *_STRATEGIES)
    symmetric = weights.one_of("symmetric", True, False, default=True)
    weights.one_of("dynamic", False, default=False)
    group = weights.whole("group_size", -1, least=-1) if weights.given.get("group_size") is not None else -1
    block = weights.given.get("block_structure")
    if strategy == "block" and not (_sizes(block) and len(block) == 2):
        _refuse(f"'{KEY}.config_groups.weights.block_structure' must be two whole numbers", _AGAIN)
    kept = {key: weights.given.get(key) for key in ("type", "num_bits", "strategy", "symmetric", "group_size")}
    kept |= {"block_structure": block} if strategy == "block" else {}
    options.read |= {
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": kept}}, "sparsity_config": None,
        "kv_cache_scheme": None,
    }  # fmt: skip
    roles: tuple[str, ...] = ("weight", "weight_scale", "weight_zero_point", *_FOR_ACTIVATIONS)
    if packed:
        roles = ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")
    rounds = any(one.get("input_activations") for one in groups.values())
    words = f"{'FP8' if kind == 'float' else f'{bits}-bit integers'} (compressed-tensors)"
    return options.done(
        words, roles, rounds=rounds, bits=bits, strategy=strategy, group=group, block=block, symmetric=symmetric,
        unpack="packed" if packed else "scaled",
        marks=("I32",) if packed else (_FP8,) if kind == "float" else ("I8",),
    )  # fmt: skip


def _mxfp4(options: _Options) -> Scheme:
    return options.done("4-bit floats (mxfp4)", ("_blocks", "_scales"), unpack="mxfp4", marks=("U8",))


METHODS: Final[dict[str, Callable[[_Options], Scheme]]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "bitsandbytes": _bitsandbytes,
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed,
    "mxfp4": _mxfp4,
}
"""Libraries' methods whose files are read."""


def unpacked(scheme: Scheme, tensors: Mapping[str, Tensor], read: Read, transposed: Callable[[str], bool]) -> Unpacked:
    """The header as it is once its packed tensors are unpacked.

    Args:
        scheme: what ``read_scheme`` read.
        tensors: the header of the files.
        read: the bytes of a small tensor, for descriptions that are stored as one.
        transposed: whether the architecture stores a module's weight as ``[in, out]``.

    Raises:
        ModelRejected: packed tensors that do not belong together, or a module that is said not to be quantised.
    """
    found, rest = _modules(scheme, tensors)
    plain = _Plain(scheme.plain)
    own_names = {id(tensor): name for name, tensor in tensors.items()}
    result: dict[str, Tensor] = {}
    sources: dict[str, dict[str, Any]] = {}
    for name, tensor in rest.items():
        result[name] = tensor
        sources[name] = {"unpack": "plain", "parts": {"weight": _place(name, tensor)}}
    for module, parts in found.items():
        if plain.names(module):
            _refuse(f"'{shown(module)}' is quantised, and '{KEY}' says that it is not", _AGAIN, file="weights")
        weight = _UNPACK[scheme.options["unpack"]](module, parts, scheme.options, read)
        name = module if scheme.method == "mxfp4" else f"{module}.weight"
        shape, turned = weight.shape, transposed(name)
        if name in result:
            _refuse(f"'{shown(name)}' is there quantised and not quantised", _AGAIN, file="weights")
        first = next(iter(weight.parts.values()))
        result[name] = Tensor("F32", tuple(reversed(shape)) if turned else shape, first.start, first.stop, first.file,
                              packed=True)  # fmt: skip
        places = {role: _place(own_names[id(tensor)], tensor) for role, tensor in weight.parts.items()}
        sources[name] = {
            "unpack": weight.unpacking, "parts": places, "shape": list(shape), "turned": turned, **weight.more,
        }  # fmt: skip
    if not found:
        _refuse(
            f"'{KEY}' says that weights are {scheme.form}, and none is",
            f"take '{KEY}' out of config.json if the weights are in full precision",
        )
    return Unpacked(result, sources)


def _place(name: str, tensor: Tensor) -> list[str]:
    """Where the sandbox finds a tensor: its file, and its name there."""
    return [tensor.file, name]


def _modules(scheme: Scheme, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Quantised modules with their packed tensors by role, and all other tensors."""
    marker = scheme.roles[0]
    ends = {role: role if role.startswith("_") else f".{role}" for role in scheme.roles}
    modules = [
        name[: -len(ends[marker])]
        for name, tensor in tensors.items()
        if name.endswith(ends[marker]) and tensor.dtype in scheme.options["marks"]
    ]
    found: dict[str, dict[str, Tensor]] = {}
    taken: set[str] = set()
    for module in modules:
        names = {role: module + end for role, end in ends.items() if module + end in tensors}
        found[module] = {role: tensors[name] for role, name in names.items()}
        taken.update(names.values())
    rest = {name: tensor for name, tensor in tensors.items() if name not in taken and not _is_of_a_cache(name, tensor)}
    return found, rest


def _is_of_a_cache(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is the scale of a rounded cache of keys and values."""
    ends = tuple(f".self_attn.{name}_scale" for name in ("k", "v", "q", "kv", "prob"))
    return name.endswith(ends) and tensor.shape in ((), (1,))


class _Plain:
    """Modules that a configuration takes out: by their names, the ends or beginnings of these, or by a pattern."""

    def __init__(self, names: tuple[str, ...]) -> None:
        budget = Budget()
        self._names = [name for name in names if not name.startswith("re:")]
        self._budget = budget
        try:
            self._patterns = [Pattern(f"(?:{name[3:]}).*", budget) for name in names if name.startswith("re:")]
        except PatternRefused as error:
            _refuse(f"a pattern of '{KEY}.ignore' {error}", "list the names of the modules")

    def names(self, module: str) -> bool:
        """Whether a module is among them."""
        try:
            return any(
                module == name or module.endswith(f".{name}") or module.startswith(f"{name}.") for name in self._names
            ) or any(pattern.matches(module) for pattern in self._patterns)
        except PatternRefused as error:
            _refuse(f"a pattern of '{KEY}.ignore' {error}", "list the names of the modules")


def _scaled(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    weight = parts["weight"]
    scales = [parts[role] for role in ("weight_scale_inv", "weight_scale") if role in parts]
    if len(scales) != 1 or scales[0].dtype not in _SCALES or len(weight.shape) != 2:
        _broken(module, "needs one tensor of scales")
    (scale,), (rows, wide) = scales, weight.shape
    strategy, block = options.get("strategy"), options.get("block")
    choices = [(rows, wide), (1, wide)]  # one scale, or one for each row
    if strategy is not None:
        choices = {"tensor": choices[:1], "channel": choices[1:]}.get(strategy, [(1, options["group"])])
    if block is not None and strategy in ("block", None):
        choices = [(int(block[0]), int(block[1]))]
    size = next((one for one in choices if _scales_fit(scale.shape, (rows, wide), one)), None)
    if size is None:
        _broken(module, f"has scales of the shape {list(scale.shape)} for the weight's {list(weight.shape)}")
    used = {"weight": weight, "scale": scale}
    zero = parts.get("weight_zero_point")
    if zero is not None:
        if zero.shape != scale.shape or zero.dtype not in ("I8", _FP8):
            _broken(module, "has zero points that do not fit its scales")
        used["zero"] = zero
    elif options.get("symmetric") is False:
        _broken(module, "lacks its zero points")
    more = {"block": list(size), "symmetric": options.get("symmetric", True)}
    return _Weight(weight.shape, "scaled", used, more)


def _scales_fit(shape: tuple[int, ...], weight: tuple[int, ...], block: tuple[int, int]) -> bool:
    """Whether there is one scale for each block; one for all may have no dimension, one for each row only one."""
    if min(block) < 1:
        return False
    grid = tuple(math.ceil(size / one) for size, one in zip(weight, block, strict=True))
    return shape == grid or (block[1] == weight[1] and (shape == grid[:1] or (grid == (1, 1) and shape == ())))


def _int8(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    weight, scale = parts["weight"], parts.get("SCB")
    if scale is None or len(weight.shape) != 2 or scale.shape != weight.shape[:1] or scale.dtype != "F32":
        _broken(module, "needs one 'SCB' for each row")
    form = parts.get("weight_format")
    if form is not None and (form.stop - form.start != 1 or read(form) != b"\0"):
        _broken(module, "stores its rows in an order of its own")
    return _Weight(
        weight.shape, "scaled", {"weight": weight, "scale": scale},
        {"block": [1, weight.shape[1]], "symmetric": True, "divisor": 127},
    )  # fmt: skip


def _blocks(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    description = parts[f"weight.quant_state.bitsandbytes__{options['kind']}"]
    weight, scales, levels = (parts.get(role) for role in ("weight", "weight.absmax", "weight.quant_map"))
    if description.stop - description.start > _MAX_STATE_BYTES or not (weight and scales and levels):
        _broken(module, "lacks a part")
    state = parse_object(read(description), "weights", depth=3)
    shape, size = state.get("shape"), state.get("blocksize")
    if not _sizes(shape) or len(shape) != 2 or type(size) is not int or not 1 <= size <= 2**16:
        _broken(module, "describes no shape")
    count = math.prod(shape)
    whole = math.ceil(count / size)
    if (
        state.get("quant_type") != options["kind"] or weight.stop - weight.start != math.ceil(count / 2)
        or scales.shape != (whole,) or (levels.dtype, levels.shape) != ("F32", (16,))
    ):  # fmt: skip
        _broken(module, f"does not hold the {count} elements that it describes")
    used = {"weight": weight, "scales": scales, "levels": levels}
    more: dict[str, Any] = {"kind": options["kind"], "size": size}
    if scales.dtype == "U8":
        nested, steps = parts.get("weight.nested_absmax"), parts.get("weight.nested_quant_map")
        inner, offset = state.get("nested_blocksize"), state.get("nested_offset")
        if (
            nested is None or steps is None or type(inner) is not int or not 1 <= inner <= 2**16
            or not isinstance(offset, int | float) or not math.isfinite(offset)
            or (nested.dtype, nested.shape) != ("F32", (math.ceil(whole / inner),))
            or (steps.dtype, steps.shape) != ("F32", (256,))
        ):  # fmt: skip
            _broken(module, "has scales that are quantised in a way that is not known")
        used |= {"nested": nested, "steps": steps}
        more |= {"nested_size": inner, "nested_offset": offset}
    elif scales.dtype != "F32":
        _broken(module, "has scales of another type")
    return _Weight(tuple(shape), "blocks", used, more)


def _gptq_weight(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    bits = options["bits"]
    words, zeros, scales = _three(module, parts)
    wide, rows = words.shape[0] * 32 // bits, words.shape[1]
    group = wide if options["group"] == -1 else options["group"]
    groups = math.ceil(wide / group)
    order = parts.get("g_idx")
    if (
        words.shape[0] * 32 % bits or scales.shape != (groups, rows) or zeros.shape != (groups, rows * bits // 32)
        or rows * bits % 32 or (order is not None and (order.dtype, order.shape) != ("I32", (wide,)))
    ):  # fmt: skip
        _broken(module, f"has parts that do not fit groups of {group}")
    used = {"words": words, "zeros": zeros, "scales": scales} | ({} if order is None else {"order": order})
    more = {"bits": bits, "group": group, "offset": options["offset"], "symmetric": options["symmetric"],
            "ordered": options["ordered"]}  # fmt: skip
    return _Weight((rows, wide), "gptq", used, more)


def _awq_weight(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    words, zeros, scales = _three(module, parts)
    wide, rows = words.shape[0], words.shape[1] * 8
    group = wide if options["group"] == -1 else options["group"]
    groups = math.ceil(wide / group)
    if wide % group or scales.shape != (groups, rows) or zeros.shape != (groups, words.shape[1]):
        _broken(module, f"has parts that do not fit groups of {group}")
    return _Weight((rows, wide), "awq", {"words": words, "zeros": zeros, "scales": scales}, {"group": group})


def _three(module: str, parts: Parts) -> tuple[Tensor, Tensor, Tensor]:
    words, zeros, scales = (parts.get(role) for role in ("qweight", "qzeros", "scales"))
    if (
        words is None or zeros is None or scales is None or scales.dtype not in FLOATS
        or (words.dtype, zeros.dtype) != ("I32", "I32") or any(len(one.shape) != 2 for one in (words, zeros, scales))
    ):  # fmt: skip
        _broken(module, "lacks a part")
    return words, zeros, scales


def _packed(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    words, scale, described = (parts.get(f"weight_{role}") for role in ("packed", "scale", "shape"))
    bits, strategy = options["bits"], options["strategy"]
    if words is None or scale is None or described is None or scale.dtype not in FLOATS or len(words.shape) != 2:
        _broken(module, "lacks a part")
    if described.shape != (2,) or described.dtype not in ("I32", "I64"):
        _broken(module, "describes no shape")
    rows, wide = struct.unpack("<2q" if described.dtype == "I64" else "<2i", read(described))
    if not (1 <= rows <= 2**31 and 1 <= wide <= 2**31) or words.shape != (rows, math.ceil(wide * bits / 32)):
        _broken(module, "does not hold the elements that it describes")
    block = {"tensor": (rows, wide), "channel": (1, wide), "group": (1, options["group"])}.get(strategy)
    if block is None or not _scales_fit(scale.shape, (rows, wide), block):
        _broken(module, f"has scales of the shape {list(scale.shape)} for the weight's {[rows, wide]}")
    used = {"words": words, "scale": scale}
    zero, order = parts.get("weight_zero_point"), parts.get("weight_g_idx")
    columns = math.ceil(wide / block[1])
    if options["symmetric"] is False:
        if zero is None or (zero.dtype, zero.shape) != ("I32", (math.ceil(rows * bits / 32), columns)):
            _broken(module, "has zero points that do not fit its scales")
        used["zero"] = zero
    if order is not None:
        if (order.dtype, order.shape) != ("I32", (wide,)) or strategy != "group":
            _broken(module, "has an order that does not fit its weight")
        used["order"] = order
    more = {"bits": bits, "block": list(block), "symmetric": options["symmetric"]}
    return _Weight((rows, wide), "packed", used, more)


def _mxfp4_weight(module: str, parts: Parts, options: Mapping[str, Any], read: Read) -> _Weight:
    blocks, scales = parts["_blocks"], parts.get("_scales")
    if (
        scales is None or len(blocks.shape) != 4 or blocks.shape[3] != 16
        or (scales.dtype, scales.shape) != ("U8", blocks.shape[:3])
    ):  # fmt: skip
        _broken(module, "needs one scale for each block of 32")
    experts, rows, count, _ = blocks.shape
    # A mixture's experts are stored the other way round than its packed blocks.
    return _Weight((experts, count * 32, rows), "mxfp4", {"blocks": blocks, "scales": scales})


_UNPACK: Final[dict[str, Callable[[str, Parts, Mapping[str, Any], Read], _Weight]]] = {
    "scaled": _scaled,
    "int8": _int8,
    "blocks": _blocks,
    "gptq": _gptq_weight,
    "awq": _awq_weight,
    "packed": _packed,
    "mxfp4": _mxfp4_weight,
}


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 1 <= one <= 2**31 for one in value)


def _broken(module: str, what: str) -> NoReturn:
    _refuse(f"the quantised weight of '{shown(module)}' {what}", _AGAIN, file="weights")


def _refuse(what: str, hint: str, *, file: str = "config.json") -> NoReturn:
    raise ModelRejected(f"{file}: {what}", hint=hint)
