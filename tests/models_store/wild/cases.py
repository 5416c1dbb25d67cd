"""Folders as people have them, and folders that look like them and must stay refused."""

from dataclasses import dataclass
from typing import Final

from tests.models_store.wild.folders import HIDDEN, PICKLE, VOCAB, Fifo, Folder, Link, factors, llama_shapes

LLAMA: Final = Folder("llama")


@dataclass(frozen=True)
class Case:
    """A folder and what is to be said about it.

    Attributes:
        name: what is special about it.
        folder: what it holds.
        says: words of the report or of the refusal.
        base: what it is audited against, where that matters.
        way: ``alone`` where the folder decides; ``local`` where an upload cannot have it; ``pair`` where the base does.
    """

    name: str
    folder: Folder
    says: str = ""
    base: Folder = LLAMA
    way: str = "alone"


def _lora(**changes: object) -> Folder:
    return Folder("lora", changes={"adapter_config.json": changes})


def _config(like: str = "llama", **changes: object) -> Folder:
    return Folder(like, changes={"config.json": changes})


_AUTO_MAP: Final = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3"}
_SWIFT: Final = r"^(model)(?!.*(lm_head|output|emb|wte|shared)).*\.(q_proj|v_proj)$"
_UNSLOTH: Final = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj|v_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|v_proj)))"
)
_HEAD: Final = {
    "base_model.model.lm_head.lora_A.weight": (4, HIDDEN),
    "base_model.model.lm_head.lora_B.weight": (VOCAB, 4),
}
_COPY: Final = {"base_model.model.lm_head.base_layer.weight": (VOCAB, HIDDEN)}
_DORA: Final = {
    name.replace("lora_B.weight", "lora_magnitude_vector"): shape[:1]
    for name, shape in factors().items()
    if "lora_B" in name
}

LFS: Final = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 269060552\n"
_LINEAR: Final = {name.removesuffix(".weight"): shape for name, shape in llama_shapes().items() if "_proj" in name}

TAKEN: Final = (
    Case(
        "Trainer's settings beside an adapter",
        Folder("lora", beside={"training_args.bin": PICKLE, "README.md": "x"}),
        "training_args.bin",
    ),
    Case(
        "checkpoint-20 below the final adapter",
        Folder("lora", beside={"checkpoint-20/optimizer.pt": PICKLE, "checkpoint-20/adapter_config.json": "{}"}),
        "checkpoint-20/",
    ),
    Case(
        "Trainer's checkpoint of a whole model",
        Folder(
            "llama",
            beside={
                "optimizer.pt": PICKLE,
                "scheduler.pt": PICKLE,
                "rng_state.pth": PICKLE,
                "trainer_state.json": '{"loss": NaN}',
                "training_args.bin": PICKLE,
            },
        ),
        "rng_state.pth",
    ),
    Case("an adapter saved twice", Folder("lora", beside={"adapter_model.bin": PICKLE}), "adapter_model.bin"),
    Case("the index of pickled shards left behind", Folder("llama", beside={"pytorch_model.bin.index.json": "{}"})),
    Case("mergekit's recipe", Folder("llama", beside={"mergekit_config.yml": "models: []"}), "mergekit_config.yml"),
    Case("a GGUF export", Folder("llama", beside={"model-q4_k_m.gguf": b"GGUF"}), "model-q4_k_m.gguf"),
    Case(
        "processors of images", Folder("lora", beside={"processor_config.json": "{}", "preprocessor_config.json": "{}"})
    ),
    Case(
        "a processor with a chat template",
        Folder("lora", beside={"chat_template.json": {"chat_template": "{{ messages }}"}}),
        "chat templates differ from the base's: 'default'",
    ),
    Case(
        "Meta's own pickle below original",
        Folder("llama", beside={"original/consolidated.00.pth": PICKLE}),
        "original/",
    ),
    Case(
        "a second download",
        Folder("llama", beside={"consolidated.safetensors": {"x": (2,)}}),
        "consolidated.safetensors",
    ),
    Case("ms-swift's arguments", Folder("lora", beside={"args.json": "{}", "additional_config.json": "{}"})),
    Case(
        "code beside a native architecture",
        Folder("phi3", beside={"modeling_phi3.py": "raise SystemExit"}),
        "modeling_phi3.py",
    ),
    Case(
        "the base's config.json beside an adapter",
        Folder("lora", changes={"config.json": {"model_type": "llama"}}),
        "config.json",
    ),
    Case(
        "gpt2 for five frameworks",
        Folder(
            "gpt2",
            beside={
                "pytorch_model.bin": PICKLE,
                "tf_model.h5": "x",
                "flax_model.msgpack": "x",
                "64.tflite": "x",
                "rust_model.ot": "x",
            },
        ),
        "tf_model.h5",
    ),
    Case(
        "a notebook, a log and what macOS leaves",
        Folder("lora", beside={"train.ipynb": "{}", "runs/events.out": "x", ".DS_Store": b"\0"}),
    ),
    Case(
        "an index whose shards are gone",
        Folder(
            "llama", beside={"model.safetensors.index.json": {"weight_map": {"x": "model-00001-of-00002.safetensors"}}}
        ),
        "model.safetensors.index.json",
    ),
    Case(
        "settings of transformers.js",
        _config(**{"transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}}),
        "transformers.js_config",
    ),
    Case(
        "notes of the author",
        _config("gpt2", author="x", license="y", created_date="2021-04-28", _num_labels=1),
        "'author'",
    ),
    Case(
        "hidden states were asked for", _config(output_hidden_states=True), "'output_hidden_states' is at its default"
    ),
    Case(
        "auto_map of a native architecture",
        _config("phi3", auto_map=_AUTO_MAP),
        "'auto_map' names code of the checkpoint",
    ),
    Case(
        "an older name of a rotary kind",
        _config("phi3", rope_scaling={"type": "su", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}),
        "longrope",
    ),
    Case("an older spelling of the class", _config(architectures=["LLaMAForCausalLM"])),
    Case("a type with torch's name", _config(torch_dtype="torch.bfloat16")),
    Case(
        "the vocabulary's size in the tokenizer's settings",
        Folder("llama", changes={"tokenizer_config.json": {"vocab_size": 49152}}),
        "'vocab_size'",
    ),
    Case(
        "an argument saved along",
        Folder("llama", changes={"tokenizer_config.json": {"fast_tokenizer": True}}),
        "'fast_tokenizer'",
    ),
    Case(
        "a tokenizer with code",
        Folder("llama", changes={"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["t.T", None]}}}),
        "names code",
    ),
    Case(
        "a file that generation is told of",
        Folder("llama", changes={"generation_config.json": {"custom_generate": "x/y"}}),
        "names code",
    ),
    Case("a fine-tune without a tokenizer", Folder("llama", without=("tokenizer.json",)), way="pair"),
    Case("fan_in_fan_out is null", _lora(fan_in_fan_out=None)),
    Case("no task type", _lora(task_type=None), "CAUSAL_LM"),
    Case(
        "Unsloth's auto_mapping",
        _lora(auto_mapping={"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True}),
        "'auto_mapping'",
    ),
    Case("ms-swift's pattern", _lora(target_modules=_SWIFT)),
    Case("Unsloth's pattern", _lora(target_modules=_UNSLOTH)),
    Case(
        "all-linear, saved as it was given",
        Folder("lora", changes={"adapter_config.json": {"target_modules": "all-linear"}}),
        way="folder",
    ),
    Case("a target that is excluded", _lora(target_modules=["q_proj", "v_proj", "k_proj"], exclude_modules=["k_proj"])),
    Case("excluded by a pattern", _lora(target_modules=["q_proj", "v_proj", "k_proj"], exclude_modules=r".*\.k_proj")),
    Case("a target that the base lacks", _lora(target_modules=["q_proj", "v_proj", "w1"]), "'w1'"),
    Case("ranks by a pattern", _lora(r=8, rank_pattern={r"layers\.\d+\.self_attn\.[qv]_proj": 4})),
    Case(
        "a head with a copy of the base's",
        Folder(
            "lora",
            changes={"adapter_config.json": {"target_modules": ["q_proj", "v_proj", "lm_head"]}},
            tensors=_HEAD | _COPY,
        ),
        way="pair",
    ),
    Case("an orthogonal start", _lora(init_lora_weights="orthogonal")),
    Case("EVA", _lora(init_lora_weights="eva", eva_config={"rho": 2.0}), "'eva_config'"),
    Case("rank-stabilised", _lora(use_rslora=True)),
    Case("DoRA", Folder("lora", changes={"adapter_config.json": {"use_dora": True}}, tensors=_DORA)),
    Case(
        "trained rows of the embedding",
        Folder(
            "lora",
            changes={"adapter_config.json": {"trainable_token_indices": [1, 2]}},
            tensors={"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, HIDDEN)},
        ),
    ),
    Case(
        "embeddings and head trained whole",
        Folder(
            "lora",
            changes={"adapter_config.json": {"modules_to_save": ["embed_tokens", "lm_head"]}},
            tensors={
                "base_model.model.model.embed_tokens.weight": (VOCAB, HIDDEN),
                "base_model.model.lm_head.weight": (VOCAB, HIDDEN),
            },
        ),
        "trained weights ('lm_head', 'model.embed_tokens'), which were put on a second copy of the base",
    ),
    Case(
        "a vocabulary that was resized before training",
        Folder(
            "lora",
            tensors={
                "base_model.model.model.embed_tokens.weight": (VOCAB + 8, HIDDEN),
                "base_model.model.lm_head.weight": (VOCAB + 8, HIDDEN),
            },
        ),
        f"the {VOCAB} that both have are compared",
    ),
    Case("biases that the base does not have", _lora(bias="lora_only")),
    Case(
        "trained biases",
        Folder(
            "lora",
            changes={"adapter_config.json": {"bias": "all"}},
            tensors={
                f"base_model.model.model.layers.{block}.self_attn.{name}.bias": (size,)
                for block in range(2)
                for name, size in (("q_proj.base_layer", 64), ("k_proj", 32), ("v_proj.base_layer", 32), ("o_proj", 64))
            },
        ),
        "which were put on a second copy",
        base=Folder(
            "llama",
            changes={"config.json": {"attention_bias": True}},
            tensors={
                f"model.layers.{block}.self_attn.{name}.bias": (size,)
                for block in range(2)
                for name, size in (("q_proj", 64), ("k_proj", 32), ("v_proj", 32), ("o_proj", 64))
            },
        ),
    ),
    Case("modules to save that no model has", _lora(modules_to_save=["classifier"]), "'classifier'"),
    Case(
        "factors on the embedding",
        Folder(
            "lora",
            changes={"adapter_config.json": {"target_modules": ["q_proj", "v_proj", "embed_tokens"]}},
            tensors={
                "base_model.model.model.embed_tokens.lora_embedding_A": (4, VOCAB),
                "base_model.model.model.embed_tokens.lora_embedding_B": (HIDDEN, 4),
                "base_model.model.model.embed_tokens.base_layer.weight": (VOCAB, HIDDEN),
            },
        ),
    ),
    Case("a newer option that is an object of what is off", _lora(runtime_config={"ephemeral_gpu_offload": False})),
    Case(
        "options of PEFT's later releases",
        _lora(
            corda_config=None,
            lora_bias=False,
            qalora_group_size=16,
            use_qalora=False,
            arrow_config=None,
            target_parameters=None,
            ensure_weight_tying=False,
            peft_version="0.18.0",
            alora_invocation_tokens=None,
            layer_replication=None,
            megatron_config=None,
            megatron_core="megatron.core",
        ),
    ),
    Case(
        "DeepSpeed's and FSDP's states",
        Folder(
            "llama",
            beside={
                "global_step10/mp_rank_00_model_states.pt": PICKLE,
                "latest": "global_step10",
                "zero_to_fp32.py": "x",
                "pytorch_model_fsdp_0/__0_0.distcp": PICKLE,
            },
        ),
        "global_step10/",
    ),
    Case(
        "exports for other engines",
        Folder("llama", beside={"onnx/model.onnx": "x", "openvino/openvino_model.xml": "x", "tekken.json": "{}"}),
        "onnx/",
    ),
    Case(
        "a tokenizer of transformers' fifth release",
        Folder(
            "llama",
            changes={
                "tokenizer_config.json": {
                    "tokenizer_class": "TokenizersBackend",
                    "backend": "tokenizers",
                    "extra_special_tokens": ["<a>"],
                    "is_local": True,
                }
            },
        ),
    ),
    Case("no quantisation", _config(quantization_config=None)),
    Case("a pointer beside the weights", Folder("lora", beside={"adapter_model.bin": LFS}), "adapter_model.bin"),
    Case(
        "weights of eight bits",
        Folder(
            "llama",
            changes={"config.json": {"quantization_config": {"quant_method": "fbgemm_fp8"}}},
            tensors={
                name: shape
                for key, (out, into) in _LINEAR.items()
                for name, shape in ((f"{key}.weight", ("F8_E4M3", out, into)), (f"{key}.weight_scale", ("F32", out, 1)))
            },
        ),
        "FP8 (fbgemm_fp8)",
    ),
    Case("an option of a newer PEFT that is off", _lora(some_new_config=None, another={}, third=[], fourth=False)),
    Case(
        "a link to a checkpoint that was deleted",
        Folder("lora", beside={"last-checkpoint": Link("checkpoint-20")}),
        "last-checkpoint",
        way="local",
    ),
    Case(
        "an empty index beside the weights",
        Folder("llama", beside={"model.safetensors.index.json": "{}"}),
        "model.safetensors.index.json",
    ),
    Case(
        "an index of pickled shards beside the weights",
        Folder(
            "llama",
            beside={"model.safetensors.index.json": {"weight_map": {"x": "pytorch_model-00001-of-00002.bin"}}},
        ),
        "model.safetensors.index.json",
    ),
    Case(
        "an index that places a tied head in a shard without it",
        Folder(
            "llama",
            changes={"config.json": {"tie_word_embeddings": True}},
            without=("model.safetensors",),
            beside={
                "model.safetensors.index.json": {"weight_map": dict.fromkeys(llama_shapes(), "a.safetensors")},
                "a.safetensors": llama_shapes(head=False),
            },
        ),
        "dropped 'lm_head.weight', which no shard holds",
    ),
    Case(
        "a buffer of earlier releases that the index does not place",
        Folder(
            "llama",
            without=("model.safetensors",),
            beside={
                "model.safetensors.index.json": {"weight_map": dict.fromkeys(llama_shapes(), "a.safetensors")},
                "a.safetensors": llama_shapes() | {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)},
            },
        ),
    ),
    Case("whole numbers for others, and others for whole", _config(rms_norm_eps=1, max_position_embeddings=256.0)),
    Case("null for a number", _config(attention_dropout=None, initializer_range=None, rope_theta=None), "is null"),
    Case("a class that is not on a list", _config(architectures="LlamaForCausalLM")),
    Case("the class of a wrapper", _config(architectures=["FSDPLlamaForCausalLM"])),
    Case("PEFT's class after merging", _config(architectures=["PeftModelForCausalLM"])),
    Case("padding outside of the vocabulary", _config(pad_token_id=VOCAB), "'pad_token_id' is dropped"),
    Case("a type for each part", _config(dtype={"": "bfloat16"}), "'dtype' is dropped"),
    Case("a token's text for its number", _config(eos_token_id="</s>"), "'eos_token_id'"),
    Case("no rotary settings", _config(rope_scaling=False), "'rope_scaling' is empty"),
    Case(
        "another name of a rotary kind",
        _config("phi3", rope_scaling={"type": "yarn", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}),
        "longrope",
    ),
    Case(
        "a quantisation that is switched off",
        _config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}),
        "nothing is quantised",
    ),
    Case("options that are off in other words", _lora(new="", newer={"a": {"b": []}}, bias="", megatron_core="")),
    Case("marks of Unsloth", _lora(unsloth_fixed=True, unsloth_version="2025.11.1")),
    Case(
        "settings of an initialisation that was not used", _lora(corda_config={"corda_method": "ipm"}), "'corda_config'"
    ),
    Case("a pattern that ignores case", _lora(target_modules=r"(?i).*\.[QV]_PROJ")),
    Case(
        "chat templates by name",
        Folder("llama", changes={"tokenizer_config.json": {"chat_template": {"default": "{{ messages }}"}}}),
    ),
    Case("no beginning of a text", Folder("llama", changes={"tokenizer_config.json": {"bos_token": False}})),
    Case(
        "a vocabulary that was extended",
        Folder(
            "llama",
            changes={"config.json": {"vocab_size": VOCAB + 64}},
            tensors={"model.embed_tokens.weight": (VOCAB + 64, HIDDEN), "lm_head.weight": (VOCAB + 64, HIDDEN)},
        ),
        f"the {VOCAB} that both have are compared",
        way="pair",
    ),
)

REFUSED: Final = (
    *(
        Case(f"a pointer of Git LFS in the place of {name}", Folder(like, beside={name: LFS.encode()}), "Git LFS")
        for like, name in (
            ("llama", "model.safetensors"),
            ("lora", "adapter_model.safetensors"),
            ("llama", "tokenizer.json"),
        )
    ),
    Case(
        "an adapter only as a pickle",
        Folder("lora", without=("adapter_model.safetensors",), beside={"adapter_model.bin": PICKLE}),
        "pickle",
    ),
    Case(
        "a model only as a pickle",
        Folder("llama", without=("model.safetensors",), beside={"pytorch_model.bin": PICKLE}),
        "pickle",
    ),
    Case(
        "a foreign architecture",
        Folder(
            "llama",
            changes={
                "config.json": {
                    "model_type": "minimind",
                    "architectures": ["MiniMindLM"],
                    "auto_map": {"AutoModelForCausalLM": "model.MiniMindLM"},
                }
            },
            beside={"model.py": "x"},
        ),
        "model_type",
    ),
    Case(
        "quantised by its config alone",
        _config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "quantization_config",
    ),
    Case(
        "tensors that the native class lacks",
        Folder(
            "phi3",
            changes={"config.json": {"auto_map": {"AutoModelForCausalLM": "m.X"}}},
            tensors={"model.layers.0.moe.gate.weight": (4, 64)},
        ),
        "is not a tensor of a phi3",
    ),
    Case("weights named elsewhere", _config(transformers_weights="other.safetensors"), "transformers_weights"),
    Case("a text for a number", _config(rms_norm_eps="1e-05"), "'rms_norm_eps' must be a number"),
    Case(
        "a text for a switch", _config(use_cache="yes", attention_bias="no"), "'attention_bias' must be true or false"
    ),
    Case("a rotary kind without its factor", _config(rope_scaling={"type": "linear"}), "'rope_scaling.factor' is not"),
    Case("a rotary factor that is a text", _config(rope_scaling={"type": "linear", "factor": "2"}), "must be a number"),
    Case(
        "several tokens for one",
        Folder("llama", changes={"tokenizer_config.json": {"eos_token": ["a", "<unk>"]}}),
        "'eos_token' is not a token",
    ),
    Case(
        "a shard without what the index places there",
        Folder(
            "llama",
            without=("model.safetensors",),
            beside={
                "model.safetensors.index.json": {"weight_map": dict.fromkeys(llama_shapes(), "a.safetensors")},
                "a.safetensors": llama_shapes(head=False),
            },
        ),
        "lacks 'lm_head.weight'",
    ),
    Case(
        "weights that Accelerate saved alone",
        Folder("llama", without=("config.json",), beside={"random_states_0.pkl": PICKLE}),
        "nobody knows what model",
    ),
    Case(
        "fewer blocks than the base",
        Folder(
            "llama",
            changes={"config.json": {"num_hidden_layers": 1}},
            without=("model.safetensors",),
            beside={"model.safetensors": llama_shapes(blocks=1)},
        ),
        "the base has 2 blocks, the fine-tuned model 1",
        way="pair",
    ),
    Case("another method than LoRA", _lora(peft_type="LOHA"), "'peft_type' is .LOHA."),
    Case("a link out under a hidden name", Folder("llama", beside={".x": Link("/nowhere/x")}), "link", way="local"),
    Case(
        "weights that are a link to nothing",
        Folder("llama", without=("model.safetensors",), beside={"model.safetensors": Link("gone")}),
        "leads nowhere",
        way="local",
    ),
    Case("a rotary kind that nobody knows", _config(rope_scaling={"type": "evil", "factor": 2.0}), "rope_scaling"),
    Case(
        "a processor's chat template that is no text",
        Folder("llama", beside={"processor_config.json": {"chat_template": {"default": ["{{ messages }}"]}}}),
        "'chat_template' is not text",
    ),
    Case("an initialisation that rewrites the base", _lora(init_lora_weights="pissa"), "init_lora_weights"),
    Case("another kind of model", _lora(task_type="SEQ_2_SEQ_LM"), "task_type"),
    Case(
        "MLX's own adapters",
        Folder(
            "lora",
            changes={
                "adapter_config.json": {
                    "peft_type": ...,
                    "task_type": ...,
                    "r": ...,
                    "fine_tune_type": "lora",
                    "num_layers": 16,
                }
            },
        ),
        "peft_type",
    ),
    Case(
        "a link out of the folder",
        Folder("llama", without=("config.json",), beside={"config.json": Link("/etc/hostname")}),
        "is a link out",
        way="local",
    ),
    Case(
        "a link out under a name that is ignored",
        Folder("llama", beside={"notes.txt": Link("/etc/hostname")}),
        "is a link out",
        way="local",
    ),
    Case("a FIFO", Folder("llama", beside={"x.txt": Fifo()}), "FIFO", way="local"),
    Case("a pattern that backtracks for ever", _lora(target_modules="(?:(?:[a-z_.0-9]+)+)+!"), "target"),
    Case("a pattern that refers back", _lora(target_modules=r"(.)\1"), "bounded time"),
    Case("a pattern that matches other modules", _lora(target_modules=r".*\.k_proj"), "targets"),
    Case("an unknown option that is on", _lora(use_newlora=True), "use_newlora"),
    Case("another rank than the weights", Folder("lora", rank=8), "rank 4"),
    Case(
        "an adapter and a whole model",
        Folder("lora", changes={"config.json": {"model_type": "llama"}}, beside={"model.safetensors": {"x": (2,)}}),
        "which is meant is not known|whether the adapter or the whole model",
    ),
    Case("an adapter of another width", Folder("lora"), "does not have", base=Folder("gpt2"), way="pair"),
    Case(
        "a copy that is not the base's",
        Folder(
            "lora",
            changes={"adapter_config.json": {"target_modules": ["q_proj", "v_proj", "lm_head"]}},
            tensors=_HEAD | {"base_model.model.lm_head.base_layer.weight": (VOCAB + 1, HIDDEN)},
        ),
        "its copy of 'lm_head'",
        way="pair",
    ),
    Case("a copy of what it does not adapt", Folder("lora", tensors=_COPY), "holds a copy"),
    Case(
        "trained weights that nothing names",
        Folder("lora", tensors={"base_model.model.model.norm.weight": (HIDDEN,)}),
        "is not a LoRA factor",
    ),
    Case(
        "modules to save whose weights are not there",
        _lora(modules_to_save=["lm_head"]),
        "has nothing for 'lm_head.weight'",
        way="pair",
    ),
    Case("magnitudes without DoRA", Folder("lora", tensors=_DORA), "is not a LoRA factor"),
    Case("DoRA without magnitudes", _lora(use_dora=True), "lora_magnitude_vector"),
    Case(
        "rows beyond the base's vocabulary",
        Folder(
            "lora",
            changes={"adapter_config.json": {"trainable_token_indices": [VOCAB]}},
            tensors={"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (1, HIDDEN)},
        ),
        "trains rows",
        way="pair",
    ),
    Case(
        "shards without an index",
        Folder("llama", without=("model.safetensors",), beside={"model-00001-of-00002.safetensors": {"x": (2,)}}),
        "model.safetensors.index.json: is not there",
    ),
    Case(
        "a base without a tokenizer",
        Folder("llama"),
        "tokenizer.json",
        base=Folder("llama", without=("tokenizer.json",)),
        way="pair",
    ),
)
