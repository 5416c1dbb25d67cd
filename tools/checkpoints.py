"""The reference page of what a checkpoint's folder may hold, written from the lists that decide it."""

from collections.abc import Iterable
from typing import Final

from backdoor_audit.contract.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, INDEX, LIMITS, WEIGHTS
from models_store.files import MAX_DEPTH, MAX_ENTRIES, MAX_TOTAL_BYTES, GiB
from models_store.verification.adapters.config import IDLE_OPTIONS, INITIALISATIONS, MAX_RANK, READ_OPTIONS
from models_store.verification.adapters.patterns import MAX_PATTERN_CHARS
from models_store.verification.architectures import ARCHITECTURES, MULTIMODAL
from models_store.verification.gguf import TYPES
from models_store.verification.gguf_models import GGUF_ARCHITECTURES
from models_store.verification.headers import FLOATS, MAX_SHARDS, MAX_TENSORS
from models_store.verification.quantised import KEY as QUANTISATION
from models_store.verification.quantised import METHODS
from models_store.verification.rewriting import CODE_KEYS, REFUSED_KEYS

_HEAD: Final = """\
# What a checkpoint's folder may hold

The same answer by every way in: `local:`, `store:`, `hf:`, `mlflow:` and `models push`. `backdoor-audit models check
FOLDER` gives it on your machine, with everything that is wrong at once. What transformers and PEFT open is a private
copy of the folder that holds the files of the first table and nothing else ([decision
0121](../decisions/0121-a-private-view.md)).

"""


def checkpoints_page() -> str:
    """What is taken, ignored, rewritten and refused, and why."""
    return _HEAD + "\n".join(
        (
            _table("Taken", ("what", "limit", "why"), _taken()),
            _table("Quantised safetensors", ("quant_method", "taken", "refused"), _QUANTISED),
            _table("Ignored: never opened, hashed or copied; listed in the report", ("what", "why"), _IGNORED),
            _table(
                "Rewritten: dropped or changed in the private copy; named in the report", ("what", "how"), _rewritten()
            ),
            _table("Refused, with the file and the key named", ("what", "why"), _refused()),
        )
    )


def _taken() -> list[tuple[str, str, str]]:
    rows = [
        (f"`{name}`", f"{limit // 1024:,} KiB", _PURPOSE.get(name, "the tokenizer")) for name, limit in LIMITS.items()
    ]
    total = f"{MAX_TOTAL_BYTES // GiB} GiB together"
    return [
        (f"`{WEIGHTS}`, or the shards that `{INDEX}` names", f"{total}, {MAX_SHARDS:,} shards, {MAX_TENSORS:,} tensors",
         f"a whole model: {_names(sorted(FLOATS))} weights of one of {len(ARCHITECTURES)} architectures"),
        ("safetensors whose weights are quantised", total,
         f"a whole model, dequantised in the sandbox: {_names(METHODS)}, in the forms of the next table"),
        ("one `*.gguf` file, or all its parts, without other weights beside it", total,
         f"a whole model with its configuration and chat template, dequantised in the sandbox: "
         f"{_names(sorted(GGUF_ARCHITECTURES))} in {_names(sorted(kind for kind, _, _ in TYPES.values()))}"),
        (f"`{ADAPTER_WEIGHTS}`", total,
         f"an adapter of rank {MAX_RANK:,} at most: LoRA, rank-stabilised LoRA, DoRA; trained biases, "
         "embeddings, heads and norms (`modules_to_save`, `bias`), a vocabulary that was resized"),
        *rows,
        ("`additional_chat_templates/*.jinja`", "256 KiB", "more chat templates"),
    ]  # fmt: skip


_PURPOSE: Final = {
    CONFIG: "sizes and options of a whole model",
    "generation_config.json": "settings of generation",
    ADAPTER_CONFIG: "options of an adapter",
    INDEX: "which shard holds which tensor",
    "chat_template.jinja": "the chat template",
    "chat_template.json": "the chat template of a processor",
    "processor_config.json": "the chat template of a processor; nothing else of it",
}
_QUANTISED: Final = [
    ("`fp8`", "E4M3 in blocks, with one scale or one for each row", "4-bit experts"),
    ("`fbgemm_fp8`", "E4M3 with a scale for each row", ""),
    (
        "`bitsandbytes`",
        "8 bits; 4 bits (`nf4`, `fp4`) in blocks, scales quantised again or not",
        "rows in an order of their own; other levels than the library's",
    ),
    (
        "`gptq`",
        "2, 3, 4 and 8 bits, both forms of zero points (`gptq`, `gptq_v2`), groups in any order",
        "what kernels read in different ways: zero points of 0 in the first form, others than the middle where `sym` "
        "is true, an order where `desc_act` is false; other bits for some modules (`dynamic`)",
    ),
    ("`awq`", "4 bits packed for `gemm`", "`gemv` and other packings"),
    (
        "`compressed-tensors`",
        "`float-quantized`, `int-quantized`, `naive-quantized` of 8 bits; `pack-quantized` of 4 and 8 bits; for each "
        "tensor, row, group or block",
        "several forms in one model; sparse or transformed weights; FP4",
    ),
    ("`mxfp4`", "experts of `gpt_oss`", ""),
    ("others", "", "the message has the command that dequantises, on a machine with the library"),
]
_IGNORED: Final = [
    ("optimizer and scheduler states, `training_args.bin`, `trainer_state.json`", "no model is read from them"),
    ("pickles beside safetensors (`pytorch_model.bin`, `adapter_model.bin`, `*.pth`)", "the safetensors are read"),
    ("folders below the checkpoint (`checkpoint-20/`, `original/`, `runs/`, `onnx/`)", "each is something of its own"),
    ("code (`modeling_*.py`), notebooks, logs, documents, pictures", "nothing of a checkpoint is ever run"),
    (
        "other exports beside safetensors (GGUF, ONNX, Flax, TensorFlow, `consolidated.safetensors`)",
        "the safetensors are read",
    ),
    ("`config.json` beside a GGUF file", "the file says all that it would"),
    (
        "`vocab.json`, `merges.txt`, `tokenizer.model`, `preprocessor_config.json`",
        "`tokenizer.json` holds all that is read",
    ),
    ("`config.json` beside an adapter", "it is the base's"),
    (
        "beside `model.safetensors`, an index that is no index of safetensors or whose shards are all gone; shards "
        "that the index does not name",
        "transformers does not read them",
    ),
    ("`mmproj*.gguf`, `imatrix*.gguf` and `._*.gguf` beside a GGUF file", "they hold no weights of the text part"),
    ("links to what is gone from inside the folder, under names that do not count", "nothing is there"),
]


def _rewritten() -> list[tuple[str, str]]:
    return [
        ("keys of JSON that transformers does not know", "dropped"),
        (_names(sorted(CODE_KEYS)), "dropped, with a warning: code of the checkpoint was not audited"),
        ("`output_*`, `return_dict`, `torchscript`", "at their defaults: they change outputs, not the model"),
        (
            f"`config.json` and weights of {_names(MULTIMODAL)}",
            "the text part alone, with a warning: what the model does with images was not audited",
        ),
        ("names of files in `tokenizer_config.json`", "dropped: only `tokenizer.json` is read"),
        ("rope types `su`, and `yarn` with the factors of `longrope`", "`longrope`, its name today"),
        ("numbers that are whole where transformers wants others, and the other way round", "the same number"),
        ("null where transformers wants a value", "its default"),
        ("`pad_token_id` outside of the vocabulary", "dropped: no forward pass depends on it"),
        ("the class of FSDP's or PEFT's wrapper in `architectures`", "the native class"),
        ("`bitsandbytes` with both switches off", "dropped: nothing is quantised"),
        ("tensors that the index names and no shard holds, where the model needs none", "dropped from the index"),
        (
            "an adapter's patterns of modules, ranks and scales",
            "written out as the names of the modules that they match",
        ),
        ("`task_type`, where it is missing", "`CAUSAL_LM`"),
        (
            f"options of an adapter that change no result: {_names(sorted(IDLE_OPTIONS))}",
            "dropped; nothing is imported",
        ),
        (
            "options of an adapter that are null, false, `{}`, `[]`, an empty text, or an object of such",
            "dropped, whether they are known or not",
        ),
        (
            f"`init_lora_weights`: {_names(str(one) for one in INITIALISATIONS)}",
            "`true`: trained factors take its place",
        ),
    ]


def _refused() -> list[tuple[str, str]]:
    return [
        ("values of `config.json` of another kind than transformers takes", "it would fail to open the model"),
        ("a rotary kind without the factors that it needs", "what it computes is not known"),
        ("weights that are there only as a pickle", "opening a pickle can run code"),
        ("pointers of Git LFS in the place of files", "the files are not there; the message says how to fetch them"),
        ("links out of the folder, FIFOs, sockets, devices", "they lead to what is not the checkpoint's"),
        (
            f"more than {MAX_ENTRIES:,} entries, folders nested deeper than {MAX_DEPTH}",
            "it is not a checkpoint's own folder",
        ),
        ("an adapter beside the weights of a whole model", "which is meant is not known"),
        (
            "`model_type` or `architectures` that are not on the list; tensors that the architecture lacks",
            "it would be another model",
        ),
        (_names(sorted(REFUSED_KEYS - {QUANTISATION})), "the same tensors would be another model"),
        (
            "several GGUF models; parts that are missing; a GGUF file of another architecture or type, or with a "
            "setting that is not known",
            "which is meant, or what it computes, is not known; the message says how to convert it",
        ),
        (
            f"`{QUANTISATION}` where no weight is quantised, or a module is that it takes out; packed tensors that do "
            "not fit each other",
            "libraries would load another model",
        ),
        ("header and configuration that disagree; damaged files", "they do not belong together"),
        ("shards without an index, or missing; a tensor in two shards", "which weights are meant is not known"),
        (f"options of an adapter that are on, other than {_names(sorted(READ_OPTIONS))}", "what they do is not known"),
        (
            "initialisations that rewrite the base (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA)",
            "the base could not be restored exactly",
        ),
        (
            "copies of the base's weights (`*.base_layer.weight`) that are not the base's, byte by byte or widened "
            "from `BF16` to `F32`",
            "they would be loaded over the shared weights",
        ),
        (
            "trained weights of an adapter that `modules_to_save` and `bias` do not name, other than embedding and "
            "head; trained experts",
            "PEFT would pass over them",
        ),
        (
            f"patterns over {MAX_PATTERN_CHARS:,} characters, that refer back, or that take too long",
            "matching is bounded",
        ),
        (
            "a base without `tokenizer.json`",
            "prompts are read with the base's tokenizer; a fine-tuned model needs none",
        ),
    ]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
