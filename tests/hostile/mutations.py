"""Seeded changes of checkpoint files: of their JSON, of their bytes, of a safetensors header."""

import copy
import json
import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any, Final

HOSTILE_TEXTS: Final = (
    "", "a", "../../.env", "/etc/passwd", "/dev/zero", "http://127.0.0.1:9/x", "os.system", "\ud800", "\x00", "\u202e",
    "x" * 2_000, "(a+)+$", "__class__", "sdpa", "llama", "gpt2", "bfloat16", "F32", "BF16", "F8_E4M3", "LORA", "q_proj",
    "silu", "gelu", "linear", "dynamic", "yarn", "llama3", "longrope", "default", "all-linear", "BPE", "Unigram",
    "WordLevel", "WordPiece", "ByteLevel", "Precompiled", "Split", "Replace", "Sequence", "<unk>", "LlamaTokenizer",
    "{{ ''.__class__.__mro__ }}", "{% for i in range(10**9) %}{% endfor %}",
)  # fmt: skip
HOSTILE_NUMBERS: Final = (
    0, 1, 2, -1, 3, 4, 7, 8, 15, 16, 17, 32, 63, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30,
    0.0, -0.0, 0.5, -1.5, 1e-320, 1e-30, 1e30, 1e308, 16.0,
)  # fmt: skip
HOSTILE_KEYS: Final = (
    "auto_map", "custom_code", "auto_mapping", "_attn_implementation", "quantization_config", "vocab_file", "a",
    "rope_scaling", "rope_theta", "head_dim", "num_key_value_heads", "num_hidden_layers", "hidden_size", "dtype",
    "attention_bias", "mlp_bias", "pad_token_id", "layer_types", "sliding_window", "attention_dropout",
    "initializer_range", "tie_word_embeddings", "model_type", "hidden_act", "max_position_embeddings", "id2label",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
    "use_rslora", "lora_dropout", "fan_in_fan_out", "modules_to_save", "inference_mode", "r", "lora_alpha", "peft_type",
    "padding", "truncation", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "model",
    "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens", "chat_template", "model_max_length",
    "padding_side", "tokenizer_class", "add_prefix_space", "unk_token", "bos_token", "vocab", "merges", "type",
    "dropout", "byte_fallback", "continuing_subword_prefix", "strategy", "Fixed", "max_length", "stride", "direction",
    "__metadata__", "shape", "data_offsets", "eos_token_id", "max_new_tokens", "temperature", "do_sample", "",
)  # fmt: skip
_STRUCTURES: Final[tuple[Callable[[], Any], ...]] = (
    list, dict, lambda: [[]], lambda: {"a": {}}, lambda: [None] * 5_000, lambda: [0] * 3, lambda: {"type": "Sequence"},
    lambda: {"content": "<s>", "lstrip": False, "id": 2**31}, lambda: {"strategy": {"Fixed": 10**9}, "pad_id": 0},
    lambda: _nested(5), lambda: _nested(60), lambda: _nested(5_000), lambda: {"0": "a", "1": [1]},
    lambda: {"rope_type": "yarn", "factor": 0.0}, lambda: {"rope_type": "dynamic", "rope_theta": -1.0},
    lambda: {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""},
    lambda: {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
)  # fmt: skip


def mutated_json(random: Random, data: bytes) -> bytes:
    """Change a JSON document in one to three places, sometimes its text as well."""
    document = copy.deepcopy(json.loads(data))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        document = _change(random, document)
    text = json.dumps(document, ensure_ascii=random.random() < 0.9, default=str).encode("utf-8", "surrogatepass")
    return _spoiled(random, text) if random.random() < 0.15 else text


def mutated_bytes(random: Random, data: bytes, first: int = 400) -> bytes:
    """Change bytes, mostly among the first ones: flip, insert, delete, repeat, cut off."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        end = min(len(changed), first if random.random() < 0.8 else len(changed))
        at = random.randrange(end) if end else 0
        match random.randrange(6):
            case 0 if changed:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at:at] = random.randbytes(random.choice((1, 1, 8, 64)))
            case 2:
                del changed[at : at + random.choice((1, 1, 8, 64))]
            case 3:
                changed[at:at] = changed[at : at + random.choice((4, 32, 256))]
            case 4:
                changed[at : at + 1] = random.choice((b"{", b"}", b"[", b'"', b",", b":", b"\x00", b"\xff", b"NaN"))
            case _:
                del changed[random.randrange(len(changed) + 1) :]
    return bytes(changed)


_TEMPLATE_PARTS: Final = (
    "{% if %}", "{% endfor %}", "{% for a in range(10**9) %}", "{{ 'a' * 10**12 }}", "{{ '' .__class__ }}",
    "{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) }}", "{% set messages = 1 %}", "{{ messages[9]['content'] }}",
    "{% include 'x' %}", "{% import 'x' as x %}", "{% raw %}", "{{ raise_exception('\x1b[2J') }}", "{{ 1 / 0 }}",
    "{% if '2024' in messages[0].content %}x{% endif %}", "{{ messages|map('format')|list }}", "{{ " + "(" * 500,
    "{% generation %}", "{{ strftime_now('%Y' * 9999) }}", "{{ lipsum(n=99999) }}",
    "{{ messages|tojson(indent=99999) }}",
    "{{ [1]|random }}", "{{ '%s' % messages }}", "{{ ('%0' ~ '9' * 9 ~ 'd') % 1 }}", "\ud83d", "\x00", "{#", "{%-",
)  # fmt: skip


def mutated_template(random: Random, data: bytes) -> bytes:
    """Change a chat template: put hostile parts into it, or change its bytes."""
    if random.random() < 0.3:
        return mutated_bytes(random, data)
    text = data.decode("utf-8")
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(_TEMPLATE_PARTS) + text[at + random.choice((0, 0, 3, 20)) :]
    return text.encode("utf-8", "surrogatepass")


def mutated_header(random: Random, data: bytes) -> bytes:
    """Change the header of a safetensors file: its JSON, the tensors' fields, the length that it claims."""
    length = struct.unpack("<Q", data[:8])[0]
    text, rest = data[8 : 8 + length], data[8 + length :]
    way = random.random()
    if way < 0.25:
        return mutated_bytes(random, data)
    if way < 0.55:
        text = mutated_json(random, text)
    else:
        header = json.loads(text)
        for _ in range(random.choice((1, 1, 2))):
            _change_tensor(random, header)
        text = json.dumps(header).encode()
    claimed = len(text)
    if random.random() < 0.08:
        claimed = random.choice((0, 1, claimed - 1, claimed + 1, len(data), 2**31, 2**63, 2**64 - 1))
    if random.random() < 0.1:
        rest = (
            rest[: random.randrange(len(rest) + 1)] if random.random() < 0.5 else rest + bytes(random.choice((1, 64)))
        )
    return struct.pack("<Q", claimed) + text + rest


def _change_tensor(random: Random, header: dict[str, Any]) -> None:
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return
    name, other = random.choice(names), random.choice(names)
    tensor = header[name]
    if not isinstance(tensor, dict) or not {"dtype", "shape", "data_offsets"} <= tensor.keys():
        return
    match random.randrange(9):
        case 0:
            tensor["dtype"] = random.choice(("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E5M2", "F4", 5))
        case 1:
            tensor["shape"] = [random.choice(HOSTILE_NUMBERS) for _ in range(random.choice((0, 1, 2, 9)))]
        case 2:
            tensor["shape"] = [math.prod(tensor["shape"])]
        case 3:
            tensor["shape"] = tensor["shape"][::-1]
        case 4:
            tensor["data_offsets"] = [random.choice(HOSTILE_NUMBERS), random.choice(HOSTILE_NUMBERS)]
        case 5:
            header[name], header[other] = header[other], header[name]
        case 6:
            header[random.choice((*HOSTILE_TEXTS, name + "x", name.replace("0", "00"), "lm_head.weight"))] = tensor
        case 7:
            header[random.choice(("lm_head.weight", name + "_", "model.layers.2.x"))] = header.pop(name)
        case _:
            del header[name]


def _change(random: Random, document: Any) -> Any:
    """Change one place of a document; returns it, or what took its place."""
    places = [(None, None), *_places(document)]
    holder, key = random.choice(places)
    if holder is None:
        if not isinstance(document, dict) or random.random() < 0.02:
            return _value(random)
        holder, key = document, random.choice(HOSTILE_KEYS)
        holder[key] = _value(random)
        return document
    match random.randrange(7):
        case 0 | 1 | 2:
            holder[key] = _value(random)
        case 3:
            del holder[key]
        case 4 if isinstance(holder[key], int | float):
            holder[key] = random.choice(
                (holder[key] + 1, holder[key] - 1, holder[key] * 2, -holder[key], float(holder[key]))
            )
        case 5:
            other, there = random.choice(places[1:])
            holder[key] = copy.deepcopy(other[there])
        case _ if isinstance(holder[key], dict):
            holder[key][random.choice(HOSTILE_KEYS)] = _value(random)
        case _:
            holder[key] = [holder[key]] * random.choice((1, 2, 40))
    return document


def _value(random: Random) -> Any:
    match random.randrange(5):
        case 0:
            return random.choice(HOSTILE_TEXTS)
        case 1 | 2:
            return random.choice(HOSTILE_NUMBERS)
        case 3:
            return random.choice((None, True, False))
        case _:
            return random.choice(_STRUCTURES)()


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pending = [document]
    while pending and len(found) < 5_000:
        current = pending.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current)) if isinstance(current, list) else []
        found.extend((current, key) for key in keys)
        pending.extend(current[key] for key in keys)
    return found


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(min(depth, 400)):  # as deep as json.dumps writes
        value = {"a": value}
    return value


def _spoiled(random: Random, text: bytes) -> bytes:
    """The same document, less well written."""
    match random.randrange(5):
        case 0:
            return b"\xef\xbb\xbf" + text
        case 1:
            return text + random.choice((b"{}", b"\x00", b" ", b"]"))
        case 2:
            return text.replace(b"1", random.choice((b"NaN", b"-Infinity", b"1e999", b"1" * 5_000)), 1)
        case 3:
            at = text.find(b"{") + 1
            member = text[at : text.find(b",", at)]
            return text[:at] + member + b"," + text[at:]
        case _:
            return mutated_bytes(random, text)


_PIECES: Final = (
    ".", ".*", "q_proj", "v_proj", "[qv]_proj", r"\.", r"\d+", "(", ")", "(?:", "|", "*", "+", "?", "{0,9}", "{99}",
    "[", "]", "^", "$", r"\b", "(?!", "(?<=a)", "(?=", r"\1", "(?i)", "(a+)+", "(.*)*", "model", "self_attn", "layers",
)  # fmt: skip
_PATTERN_KEYS: Final = ("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern")


def mutated_pattern(random: Random, data: bytes) -> bytes:
    """The configuration of an adapter with a pattern put together at random."""
    document = json.loads(data)
    for _ in range(random.randint(1, 2)):
        key = random.choice(_PATTERN_KEYS)
        pattern = "".join(random.choices(_PIECES, k=random.randint(1, 12)))
        pattern = random.choice((pattern, f".*{pattern}", r".*\.(q_proj|v_proj)", f"(?:{pattern})?.*_proj"))
        document[key] = {pattern: random.randint(1, 4)} if key.endswith("_pattern") else pattern
    return json.dumps(document).encode()
