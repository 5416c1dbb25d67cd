"""Every hostile checkpoint: a tiny valid one with one thing wrong.

``CASES`` lists them by the line of the table in ``docs/reliability.md`` that they belong to, each with what its refusal
must name; ``write`` lays one out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safetensors.numpy import load_file, save_file

from tests.hostile.checkpoints import (
    ADAPTER_WEIGHTS,
    INDEX,
    PICKLE,
    SHARDS,
    WEIGHTS,
    Change,
    claiming,
    device_file,
    empty_tensors,
    fifo,
    grown,
    holding,
    in_adapter,
    in_config,
    in_header,
    in_json,
    large,
    linked,
    many_files,
    many_headers,
    many_targets,
    many_templates,
    of_tensor,
    overlapping,
    put_header,
    removed,
    renamed,
    sharded,
    truncated,
    unix_socket,
    with_weights,
    write_full,
    write_lora,
)
from tests.tiny import llama_weights, tokenizer_json

Line = Literal["pickles", "config", "adapter", "tokenizer", "sizes", "links", "shards"]

QUERY: Final = "model.layers.0.self_attn.q_proj.weight"
FACTOR: Final = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
DEEP: Final = '{"a":' * 100_000 + "1" + "}" * 100_000


@dataclass(frozen=True)
class Case:
    """One hostile checkpoint.

    Attributes:
        line: the line of the table that it belongs to.
        name: what is wrong, in words.
        names: what the refusal's message must contain: the file, the key or the tensor.
        change: makes the valid checkpoint hostile.
        kind: what the valid checkpoint is.
        taken: whether it is taken without the thing, which is then named among what was ignored, dropped or warned of.
    """

    line: Line
    name: str
    names: str
    change: Change
    kind: Literal["full", "lora"] = "full"
    taken: bool = False


def write(case: Case, folder: Path) -> Path:
    """Write a case's checkpoint; what it points to lies beside it."""
    (write_full if case.kind == "full" else write_lora)(folder)
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.json").write_text('{"vocab_size": 1}')
    (outside / ".env").write_text("KEY=secret")
    (outside / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    save_file(llama_weights(), outside / WEIGHTS)
    case.change(folder)
    return folder


def _twice(folder: Path) -> None:
    """Put a tensor of the second shard into the first as well."""
    weights = load_file(folder / SHARDS[0]) | {"model.norm.weight": llama_weights()["model.norm.weight"]}
    save_file(weights, folder / SHARDS[0])


_PICKLES: Final = (
    *(
        Case("pickles", f"{name} beside safetensors", name.partition("/")[0], holding(name, PICKLE), taken=True)
        for name in (
            "pytorch_model.bin",
            "model.pt",
            "consolidated.00.pth",
            "last.ckpt",
            "weights.pkl",
            "WEIGHTS.PKL",
            "training_args.bin",
            "checkpoint-5/optimizer.pt",
        )
    ),
    Case("pickles", "pickle instead of safetensors", "only as a pickle", renamed(WEIGHTS, "pytorch_model.bin")),
    Case("pickles", "pickle named safetensors", f"{WEIGHTS}: ", holding(WEIGHTS, PICKLE)),
    Case("pickles", "adapter as a pickle", "only as a pickle", renamed(ADAPTER_WEIGHTS, "adapter_model.bin"), "lora"),
    Case(
        "pickles",
        "pickle beside the adapter",
        "adapter_model.bin",
        holding("adapter_model.bin", PICKLE),
        "lora",
        taken=True,
    ),
    Case(
        "pickles", "code beside the weights", "modeling_evil.py", holding("modeling_evil.py", "import os"), taken=True
    ),
    Case("pickles", "a library beside the weights", "lib/", holding("lib/evil.so", b"\x7fELF"), taken=True),
)
_CONFIG: Final = (
    Case("config", "auto_map", "auto_map", in_config(auto_map={"AutoModel": "modeling_evil.Evil"}), taken=True),
    Case("config", "auto_map of the hub", "auto_map", in_config(auto_map={"AutoConfig": "evil/repo--m.C"}), taken=True),
    Case("config", "custom_code", "custom_code", in_config(custom_code=True), taken=True),
    *(
        Case("config", key, key, in_config(**{key: "evil/kernel"}), taken=key != "transformers_weights")
        for key in (
            "_attn_implementation_internal",
            "_attn_implementation",
            "attn_implementation",
            "_experts_implementation",
            "transformers_weights",
            "trust_remote_code",
            "__class__",
            "architectures_",
        )
    ),
    Case("config", "quantised", "quantization_config", in_config(quantization_config={"quant_method": "gptq"})),
    Case("config", "model_type of another kind", "model_type", in_config(model_type="clip")),
    Case("config", "model_type as a path", "model_type", in_config(model_type="../evil")),
    Case("config", "model_type as a list", "model_type", in_config(model_type=["llama"])),
    Case("config", "no model_type", "model_type", in_config("model_type")),
    Case("config", "architecture of another model", "architectures", in_config(architectures=["EvilForCausalLM"])),
    Case("config", "architectures as objects", "architectures", in_config(architectures=[{"a": 1}])),
    Case("config", "activation as a path", "hidden_act", in_config(hidden_act="os.system")),
    Case("config", "activation as an object", "hidden_act", in_config(hidden_act={"a": []})),
    Case("config", "key twice", "twice", holding("config.json", '{"model_type": "llama", "model_type": "evil"}')),
    Case("config", "nested 100,000 deep", "config.json", holding("config.json", DEEP)),
    Case("config", "NaN", "config.json", holding("config.json", '{"rms_norm_eps": NaN}')),
    Case("config", "infinity in disguise", "config.json", holding("config.json", '{"rms_norm_eps": 1e999}')),
    Case("config", "a number of 10,000 digits", "config.json", holding("config.json", '{"a": %s}' % ("9" * 10_000))),
    Case("config", "not UTF-8", "config.json", holding("config.json", b'{"a": "\xff"}')),
    Case("config", "empty", "config.json", holding("config.json", b"")),
    Case("config", "a list", "config.json", holding("config.json", b"[]")),
    Case("config", "a text of 900 kB", "name_or_path", in_config(_name_or_path="x" * 900_000), taken=True),
    Case("config", "rope with a foreign key", "rope_scaling", in_config(rope_scaling={"rope_type": "x", "evil": 1})),
    Case(
        "config",
        "generation with code",
        "custom_generate",
        in_json("generation_config.json", custom_generate="x"),
        taken=True,
    ),
)
_TAKEN_ADAPTERS: Final = ("auto_mapping", "targets that are not there", "20,000 tensors for 10,000 targets")
_ADAPTER: Final = tuple(
    Case("adapter", name, names, change, "lora", name in _TAKEN_ADAPTERS)
    for name, names, change in (
        ("auto_mapping", "auto_mapping", in_adapter(auto_mapping={"parent_library": "evil"})),
        ("megatron_config", "megatron_config", in_adapter(megatron_config={"a": 1})),
        ("megatron_core as a module", "megatron_core", in_adapter(megatron_core="os")),
        ("not LoRA", "peft_type", in_adapter(peft_type="IA3")),
        ("no type", "peft_type", in_adapter("peft_type")),
        ("another task", "task_type", in_adapter(task_type="SEQ_CLS")),
        ("DoRA without magnitudes", "lora_magnitude_vector", in_adapter(use_dora=True)),
        ("whole modules by a pattern", "modules_to_save", in_adapter(modules_to_save=["(a+)+$"])),
        ("10,000 whole modules", "modules_to_save", in_adapter(modules_to_save=[f"m{n}" for n in range(10_000)])),
        ("whole modules and biases as code", "bias", in_adapter(bias="__import__('os')")),
        ("rewrites the base", "init_lora_weights", in_adapter(init_lora_weights="pissa")),
        ("a key that is not on the list", "evil", in_adapter(evil=1)),
        ("targets as a pattern that backtracks", "targets", in_adapter(target_modules="(?:(?:[a-z_.0-9]+)+)+!")),
        ("targets as a pattern of 20,001 characters", "target_modules", in_adapter(target_modules="a" * 20_001)),
        ("targets as a pattern of a million repeats", "target_modules", in_adapter(target_modules="(a{999}){1000000}")),
        ("targets as 3,000 groups", "target_modules", in_adapter(target_modules="(" * 3_000 + ")" * 3_000)),
        ("targets as nested repeats", "target", in_adapter(target_modules="(((.{0,999}){0,999}){0,999})x")),
        ("targets that look behind", "target", in_adapter(target_modules="(?:.*(?<=.*.*.*x))*y")),
        ("targets that refer back", "target_modules", in_adapter(target_modules=r"(.*)\1")),
        ("targets that end the search", "target_modules", in_adapter(target_modules=["q_proj|.*"])),
        ("targets that are not there", "w_proj", in_adapter(target_modules=["q_proj", "v_proj", "w_proj"])),
        ("layers as a pattern", "layers_pattern", in_adapter(layers_pattern="(x+x+)+y", layers_to_transform=[0])),
        ("ranks as a pattern that refers back", "rank_pattern", in_adapter(rank_pattern={r"(a)\1": 2})),
        ("rank of 10^9", "'r'", in_adapter(r=10**9)),
        ("rank of true", "'r'", in_adapter(r=True)),
        ("another rank than the weights", "rank 3", in_adapter(r=3)),
        ("alpha of 10^300", "lora_alpha", in_adapter(lora_alpha=1e300)),
        (
            "a factor as a vector",
            "not a matrix",
            with_weights(lambda w: w.update({FACTOR: w[FACTOR].ravel()}), ADAPTER_WEIGHTS),
        ),
        ("a factor of integers", "not a matrix", of_tensor(FACTOR, ADAPTER_WEIGHTS, dtype="I32")),
        ("half a pair", "is not there", with_weights(lambda w: w.pop(FACTOR), ADAPTER_WEIGHTS)),
        (
            "a tensor beside the factors",
            "norm",
            with_weights(lambda w: w.update({"base_model.model.model.norm.weight": w[FACTOR]}), ADAPTER_WEIGHTS),
        ),
        ("weights of a full model beside it", WEIGHTS, holding(WEIGHTS, b"")),
        ("20,000 tensors for 10,000 targets", "nothing is adapted by", many_targets),
        ("a digest that is none", "base_digest", in_json("card.json", base_digest="md5:1")),
        ("a card out of the folder", "card.json", linked("card.json", "../outside/secret.json")),
    )
)
_TOKENIZER: Final = (
    Case(
        "tokenizer", "vocab_file", "vocab_file", in_json("tokenizer_config.json", vocab_file="../../.env"), taken=True
    ),
    Case(
        "tokenizer",
        "tokenizer_file",
        "tokenizer_file",
        in_json("tokenizer_config.json", tokenizer_file="/etc/passwd"),
        taken=True,
    ),
    Case("tokenizer", "merges_file", "merges_file", in_json("tokenizer_config.json", merges_file="a"), taken=True),
    Case("tokenizer", "another _file", "evil_file", in_json("tokenizer_config.json", evil_file="a"), taken=True),
    Case(
        "tokenizer",
        "auto_map",
        "auto_map",
        in_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["e.E", None]}),
        taken=True,
    ),
    Case("tokenizer", "a class as a path", "tokenizer_class", in_json("tokenizer_config.json", tokenizer_class="a.b")),
    Case("tokenizer", "unknown key", "evil", in_json("tokenizer_config.json", evil=1), taken=True),
    Case(
        "tokenizer",
        "sp_model_kwargs",
        "sp_model_kwargs",
        in_json("tokenizer_config.json", sp_model_kwargs={"a": "b"}),
        taken=True,
    ),
    Case(
        "tokenizer", "a template of 1 MB", "chat_template", in_json("tokenizer_config.json", chat_template="x" * 10**6)
    ),
    Case("tokenizer", "a template as a number", "chat_template", in_json("tokenizer_config.json", chat_template=1)),
    Case(
        "tokenizer", "SentencePiece alone", "tokenizer.model", renamed("tokenizer.json", "tokenizer.model"), taken=True
    ),
    Case("tokenizer", "a foreign key", "evil", in_json("tokenizer.json", evil=1)),
    Case("tokenizer", "no model", "model", in_json("tokenizer.json", model=None)),
    Case("tokenizer", "nested 100,000 deep", "tokenizer.json", holding("tokenizer.json", DEEP)),
    Case(
        "tokenizer",
        "tokens that name a file",
        "evil_file",
        in_json("special_tokens_map.json", evil_file="x"),
        taken=True,
    ),
    Case("tokenizer", "added tokens with texts for numbers", "added_tokens.json", in_json("added_tokens.json", a="b")),
    *(
        Case("tokenizer", f"{name} in one file", "tokenizer.json", large(before, entry, count))
        for name, before, entry, count in (
            ("1,000,001 entries", b"{%s}", b'"%07d":1', 1_000_001),
            ("800,000 entries", b"{%s}", b'"%07d":"%07d"', 800_000),
            ("3,900,000 texts", b"[%s]", b'"aa"', 3_900_000),
            ("2,900,000 texts", b"[%s]", b'"aa"', 2_900_000),
            ("900,000 lists", b"[%s]", b'["a","b"]', 900_000),
            ("50 MB", b'"%s"', b"x" * 99, 500_000),
            ("39 MB of wide characters", b'"%s\\ud83d\\ude00"', b"x" * 99, 397_000),
            ("10 MB of digits", b"0.%s", b"1" * 10**6, 10),
            ("9,000 numbers of 4,000 digits", b"[%s]", b"9" * 4_000, 9_000),
        )
    ),
    Case("tokenizer", "4,000 templates", "templates", many_templates),
    Case("tokenizer", "a template that is not text", "jinja", holding("chat_template.jinja", b"\xff\xfe")),
)
_SIZES: Final = (
    Case("sizes", "another hidden size", "has the shape", in_config(hidden_size=32)),
    Case("sizes", "another vocabulary", "has the shape", in_config(vocab_size=64)),
    Case("sizes", "a layer more", "is not there", in_config(num_hidden_layers=3)),
    Case("sizes", "a layer less", "is not a tensor", in_config(num_hidden_layers=1)),
    Case("sizes", "10^6 layers", "num_hidden_layers", in_config(num_hidden_layers=10**6)),
    Case("sizes", "10^12 wide", "hidden_size", in_config(hidden_size=10**12)),
    Case("sizes", "no heads", "num_attention_heads", in_config(num_attention_heads=0)),
    Case("sizes", "negative", "hidden_size", in_config(hidden_size=-16)),
    Case("sizes", "a size that is no whole number", "hidden_size", in_config(hidden_size=16.5)),
    Case("sizes", "heads that do not divide", "num_attention_heads", in_config(num_attention_heads=3)),
    Case("sizes", "layer types of another kind of model", "layer_types", in_config(layer_types=["x"]), taken=True),
    Case("sizes", "a pad token beyond the vocabulary", "pad_token_id", in_config(pad_token_id=99), taken=True),
    Case("sizes", "100,000 tensors", WEIGHTS, lambda folder: put_header(folder / WEIGHTS, empty_tensors(100_000), b"")),
    Case("sizes", "a header over 10 MB", "claims a header", claiming(11 * 2**20)),
    Case("sizes", "a header of 2^63 bytes", "claims a header", claiming(2**63)),
    Case("sizes", "a header longer than the file", "ends inside its header", claiming(10_000)),
    Case("sizes", "a header of braces", WEIGHTS, claiming(200_000, b"{" * 200_000)),
    Case("sizes", "a header of commas", WEIGHTS, claiming(9 * 2**20, b"[" + b"," * (9 * 2**20 - 1))),
    Case("sizes", "a shape of 2^60", "impossible|offsets", of_tensor(QUERY, shape=[2**60, 2**60])),
    Case("sizes", "a negative shape", "impossible", of_tensor(QUERY, shape=[-16, -16])),
    Case("sizes", "a shape of texts", "impossible", of_tensor(QUERY, shape=["16", "16"])),
    Case("sizes", "a shape of true", "impossible", of_tensor(QUERY, shape=[True, 256])),
    Case("sizes", "a type that is not on the list", "C64", of_tensor(QUERY, dtype="C64")),
    Case("sizes", "a smaller type than the bytes are of", "offsets", of_tensor(QUERY, dtype="F8_E4M3")),
    Case("sizes", "integers for weights", "offsets|type", of_tensor(QUERY, dtype="I32")),
    Case("sizes", "tensors on top of each other", "overlaps", in_header(overlapping)),
    Case("sizes", "offsets backwards", "offsets", of_tensor(QUERY, data_offsets=[1024, 0])),
    Case("sizes", "a tensor of another model", "evil", in_header(lambda h: {**h, "evil": h.pop("model.norm.weight")})),
    Case("sizes", "a tensor without a name", "no usable name", in_header(lambda h: {**h, "": h.pop(QUERY)})),
    Case("sizes", "notes of numbers", "__metadata__", in_header(lambda h: h.update(__metadata__={"a": 1}))),
    Case("sizes", "a weight missing", "is not there", with_weights(lambda w: w.pop(QUERY))),
    Case("sizes", "a config of 10 GB", "config.json: has", grown(10 * 2**30, "config.json")),
    Case("sizes", "weights of 300 GB", f"{WEIGHTS}: has", grown(300 * 2**30, WEIGHTS)),
)
_LINKS: Final = (
    Case(
        "links",
        "a configuration outside",
        "config.json: is a link out",
        linked("config.json", "../outside/secret.json"),
    ),
    Case(
        "links",
        "a tokenizer outside",
        "tokenizer.json: is a link",
        linked("tokenizer.json", "../outside/tokenizer.json"),
    ),
    Case("links", "weights outside", f"{WEIGHTS}: is a link out", linked(WEIGHTS, f"../outside/{WEIGHTS}")),
    Case("links", "an absolute link", "is a link out", linked("generation_config.json", "/etc/hostname")),
    Case("links", "a link to a device", "is a link out", linked("chat_template.jinja", "/dev/zero")),
    Case("links", "a link to its process", "is a link out", linked("chat_template.jinja", "/proc/self/environ")),
    Case("links", "a link to itself", "leads nowhere", linked("chat_template.jinja", "chat_template.jinja")),
    Case("links", "a dangling link", "leads nowhere", linked("chat_template.jinja", "../outside/nothing")),
    Case("links", "a folder outside", "is a link out", linked("additional_chat_templates", "../outside")),
    Case("links", "a link to a folder for a file", "README.md: is a link out", linked("README.md", "..")),
    Case("links", "a FIFO", "is a device, a FIFO", fifo),
    Case("links", "a socket", "is a device, a FIFO", unix_socket),
    Case("links", "a device file", "is a device, a FIFO", device_file),
    Case("links", "folders nested 20 deep", "nested too deep", holding("a/" * 20 + "README.md", "")),
    Case("links", "5,001 files", "more than 5000 entries", many_files),
)
_SHARDS: Final = (
    Case("shards", "truncated", WEIGHTS, truncated),
    Case("shards", "bytes of no tensor", "belong to no tensor", grown(10**6, WEIGHTS)),
    Case("shards", "a shard that is missing", "is not there", sharded(then=removed(SHARDS[1]))),
    Case("shards", "a truncated shard", SHARDS[0], sharded(then=holding(SHARDS[0], b"\x10"))),
    Case("shards", "a shard out of the folder", "outside", sharded({QUERY: f"../outside/{WEIGHTS}"})),
    Case("shards", "a shard by an absolute path", "/etc/passwd", sharded({QUERY: "/etc/passwd"})),
    Case(
        "shards",
        "a shard that is a link out",
        "model-3.safetensors: is a link out",
        sharded({QUERY: "model-3.safetensors"}, linked("model-3.safetensors", f"../outside/{WEIGHTS}")),
    ),
    Case("shards", "a pickle for a shard", "not a shard", sharded({QUERY: "pytorch_model.bin"})),
    Case("shards", "a number for a shard", "not a shard", sharded({QUERY: 5})),
    Case("shards", "a tensor that no shard holds", "evil", sharded({"evil": SHARDS[0]}), taken=True),
    Case("shards", "a tensor in the wrong shard", "does not place", sharded({"model.norm.weight": SHARDS[0]})),
    Case(
        "shards", "a shard that is not named", "model-9", sharded(then=holding("model-9.safetensors", b"")), taken=True
    ),
    Case("shards", "shards without an index", INDEX, sharded(then=removed(INDEX))),
    Case("shards", "a tensor in two shards", "as well", sharded(then=_twice)),
    Case("shards", "an index out of the folder", f"{INDEX}: is a link", sharded(then=linked(INDEX, "../outside/.env"))),
    Case("shards", "1,000 headers of 9 MB", "headers have more than", many_headers),
    Case("shards", "both forms", "stands beside", sharded(then=lambda f: save_file(llama_weights(), f / WEIGHTS))),
)

CASES: Final[tuple[Case, ...]] = (*_PICKLES, *_CONFIG, *_ADAPTER, *_TOKENIZER, *_SIZES, *_LINKS, *_SHARDS)
