"""JSON of a stranger, as the private view has it: what transformers and PEFT would not use is left out and named.

Nothing here decides what is refused; ``config_rules``, ``tokenizer_rules`` and ``adapters`` judge what is left.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models_store.files import shown
from models_store.verification.architectures import MULTIMODAL
from models_store.verification.config_rules import (
    DTYPES,
    FLAGS,
    INERT_KEYS,
    NUMBERS,
    ROTARY_KEYS,
    fits,
    is_of_kind,
    known_keys,
    taken_kinds,
)
from models_store.verification.tokenizer_rules import (
    SETTINGS,
    SPECIAL_TOKENS,
    is_token_key,
    names_a_file,
    setting_is_plain,
)

CODE_KEYS: Final = frozenset({"auto_map", "custom_code", "custom_generate", "custom_pipelines"})
# Each makes another model of the same tensors, so it is never dropped: ``check_config`` refuses it.
REFUSED_KEYS: Final = frozenset(
    {"quantization_config", "compression_config", "quantization", "transformers_weights", "per_layer_config"}
)
_OUTPUTS: Final = re.compile(r"output_[a-z_]+|return_dict|torchscript")
_OUTPUT_DEFAULTS: Final = {"return_dict": True}
_OLD_ROTARY: Final = {"su": "longrope"}
_PEFT_CLASS: Final = "peftmodelforcausallm"
_MAX_NAMED: Final = 12
# Models with several parts whose head is their own where nothing is said.
_UNTIED: Final = frozenset({"qwen3_5"})


@dataclass(frozen=True)
class Rewritten:
    """A document as the view has it.

    Attributes:
        document: what is left.
        notes: what was changed without a consequence, a sentence each.
        warnings: what an audit's reader must know, a sentence each.
    """

    document: dict[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class Changes:
    """Collects what was changed in one file."""

    name: str
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def code(self, key: str) -> None:
        """Note that a key asked for code of the checkpoint."""
        self.warnings.append(
            f"{self.name}: '{shown(key)}' names code of the checkpoint; it was not run, and the audit says nothing "
            "about it"
        )

    def rewritten(self, document: dict[str, Any]) -> Rewritten:
        """The result, with one sentence for all dropped keys."""
        notes = [f"{self.name}: dropped {listed(self.dropped)}"] if self.dropped else []
        return Rewritten(document, (*notes, *(f"{self.name}: {note}" for note in self.notes)), tuple(self.warnings))


def listed(names: Iterable[str]) -> str:
    """Names in quotes, the first dozen of them."""
    quoted = [f"'{shown(name)}'" for name in sorted(names)]
    more = len(quoted) - _MAX_NAMED
    return ", ".join(quoted[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def is_off(value: Any) -> bool:
    """Whether an option with this value does nothing: null, false, an empty list or text, or an object of such."""
    if isinstance(value, dict):
        return all(item is None or item is False for item in value.values())
    return value is None or value is False or value in ([], "")


def says_nothing(value: Any) -> bool:
    """Whether an option of an adapter is off however deep its objects are."""
    return all(map(says_nothing, value.values())) if isinstance(value, dict) else is_off(value)


def rewrite_config(raw: Mapping[str, Any]) -> Rewritten:
    """config.json without what the native class of its ``model_type`` does not use."""
    if is_multimodal(raw):
        return _text_part(raw)
    types = known_keys()["types"]
    model_type = raw.get("model_type")
    known = types.get(model_type) if isinstance(model_type, str) else None
    if known is None:
        return Rewritten(dict(raw))
    changes = Changes("config.json")
    document: dict[str, Any] = {}
    for given, value in raw.items():
        # transformers reads some sizes by a second name, as its earlier releases wrote them.
        other = None if given in known["keys"] else known["own_names"].get(given)
        if other is not None and raw.get(other, value) != value:
            document[given] = value  # which of them is meant is not known, and it is refused
            continue
        key = given if other is None else other
        if key in CODE_KEYS:
            if not is_off(value):
                changes.code(key)
        elif key in REFUSED_KEYS:
            if _loads_in_full(key, value):
                changes.notes.append(f"'{key}' is dropped: it says that nothing is quantised")
            elif not is_off(value):
                document[key] = value
        elif key not in known["keys"] or (
            key in INERT_KEYS and not (fits(key, value) and is_of_kind(known, key, value))
        ):
            changes.dropped.append(key)
        elif _OUTPUTS.fullmatch(key):
            if value not in (None, _OUTPUT_DEFAULTS.get(key, False)):
                changes.notes.append(f"'{shown(key)}' is at its default: it changes outputs, not the model")
        else:
            document[key] = _value(
                key, value, known, changes, raw.get("vocab_size", known["defaults"].get("vocab_size"))
            )
    return changes.rewritten({key: value for key, value in document.items() if value is not _DROPPED})


def is_multimodal(raw: Mapping[str, Any]) -> bool:
    """Whether config.json is that of a model whose text part is one that is taken."""
    text, outer = raw.get("text_config"), raw.get("model_type")
    texts = MULTIMODAL.get(outer, ()) if isinstance(outer, str) else ()
    return isinstance(text, dict) and text.get("model_type", texts[0] if texts else None) in texts


def _text_part(raw: Mapping[str, Any]) -> Rewritten:
    """The text part's configuration, as a model of its own."""
    outer = str(raw["model_type"])
    text = {"model_type": MULTIMODAL[outer][0], **raw["text_config"]}
    # The whole's setting counts, not the part's.
    text["tie_word_embeddings"] = raw.get("tie_word_embeddings", outer not in _UNTIED)
    for key in ("dtype", "torch_dtype"):
        if text.get(key) is None and raw.get(key) is not None:
            text[key] = raw[key]
    # What asks for code or for other weights counts wherever it stands; the classes named are those of the whole.
    text |= {key: raw[key] for key in (*CODE_KEYS, *REFUSED_KEYS) if not is_off(raw.get(key))}
    text.pop("architectures", None)
    inner = rewrite_config(text)
    warning = (
        f"config.json: this is a {shown(outer)} model, of which the text part was audited; what it does with images or "
        "other inputs was not"
    )
    return Rewritten(inner.document, inner.notes, (warning, *inner.warnings))


_DROPPED: Final = object()


def _value(key: str, value: Any, known: Mapping[str, Any], changes: Changes, vocabulary: Any) -> Any:
    if key in ("dtype", "torch_dtype") and value is not None:
        plain = value.removeprefix("torch.") if isinstance(value, str) else ""
        if plain in DTYPES:
            return plain
        changes.notes.append(f"'{key}' is dropped: weights have types of their own")
        return _DROPPED
    if key in FLAGS and value is None:
        return False
    if key == "architectures" and isinstance(value, list | str):
        native = {name.lower(): name for name in known["architectures"]} | {_PEFT_CLASS: known["architectures"][0]}
        names = [value] if isinstance(value, str) else value
        return [_named(name, native) if isinstance(name, str) else name for name in names]
    if key in ("rope_parameters", "rope_scaling"):
        if value is False or value in ([], {}):
            changes.notes.append(f"'{key}' is empty and dropped")
            return _DROPPED
        return _rotary(key, value, changes) if isinstance(value, dict) else value
    if key == "pad_token_id" and not _is_padding(value, vocabulary):
        changes.notes.append(f"'{key}' is dropped: it is no token of the vocabulary")
        return _DROPPED
    return _of_its_kind(key, value, known, changes)


def _loads_in_full(key: str, value: Any) -> bool:
    """Whether this is bitsandbytes' configuration with both of its switches off, which merging leaves behind."""
    if key != "quantization_config" or not isinstance(value, dict) or value.get("quant_method") != "bitsandbytes":
        return False
    switches = ("load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit")
    return not any(value.get(switch) for switch in switches)


def _named(name: str, native: Mapping[str, str]) -> str:
    """The class's own name where a library wrote that of its wrapper, or other capitals."""
    lower = name.lower()
    return native.get(lower, native.get(lower.removeprefix("fsdp"), name))


def _is_padding(value: Any, vocabulary: Any) -> bool:
    if value is None or type(vocabulary) is not int:
        return True
    return type(value) is int and -vocabulary <= value < vocabulary


def _of_its_kind(key: str, value: Any, known: Mapping[str, Any], changes: Changes) -> Any:
    """A number as transformers has it, which tells whole numbers from others; null where a key has a default."""
    kinds = taken_kinds(known, key)
    if value is None and (key in NUMBERS or "null" not in kinds):
        changes.notes.append(f"'{shown(key)}' is null, and so at its default")
        return _DROPPED
    if type(value) is int and "int" not in kinds and "float" in kinds and abs(value) < 2**53:
        return float(value)
    if isinstance(value, float) and "float" not in kinds and "int" in kinds and value.is_integer():
        return int(value)
    return value


def _rotary(key: str, value: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Rotary settings with today's name for their kind; numbers that no kind reads are dropped."""
    document: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            document[name] = _rotary(f"{key}.{name}", item, changes)
        elif name in ("type", "rope_type") and isinstance(item, str) and item in _OLD_ROTARY:
            document[name] = _OLD_ROTARY[item]
            changes.notes.append(f"'{key}.{name}' is '{_OLD_ROTARY[item]}', which '{item}' was called before")
        elif name not in ROTARY_KEYS:
            changes.dropped.append(f"{key}.{name}")
        else:
            document[name] = item
    if "type" in document and "rope_type" not in document:
        document["rope_type"] = document.pop("type")
    if document.get("rope_type") == "yarn" and "factor" not in document and "long_factor" in document:
        document["rope_type"] = "longrope"
        changes.notes.append(f"'{key}.rope_type' is 'longrope': early Phi-3 models called it 'yarn'")
    return document


def rewrite_generation_config(raw: Mapping[str, Any]) -> Rewritten:
    """generation_config.json with the keys that this version of transformers knows, where their values are plain."""
    known = frozenset(known_keys()["generation"])
    changes = Changes("generation_config.json")
    document: dict[str, Any] = {}
    for key, value in raw.items():
        if key in CODE_KEYS and not is_off(value):
            changes.code(key)
        elif _OUTPUTS.fullmatch(key) or key not in known or not fits(key, value):
            if not is_off(value):
                changes.dropped.append(key)
        else:
            document[key] = value
    return changes.rewritten(document)


def rewrite_tokenizer_config(raw: Mapping[str, Any]) -> Rewritten:
    """tokenizer_config.json without the names of files and classes to import, and without keys that nothing reads."""
    changes = Changes("tokenizer_config.json")
    document: dict[str, Any] = {}
    for key, value in raw.items():
        if key in CODE_KEYS:
            if not is_off(value):
                changes.code(key)
        elif key == "chat_template" and isinstance(value, dict | bool):
            # Templates by name are a list of such in the file, and an object where they are saved by hand.
            if value:
                named = value.items() if isinstance(value, dict) else ()
                document[key] = [{"name": name, "template": text} for name, text in named] or value
        elif is_token_key(key) and value is False:
            continue  # no token, which is null today
        elif names_a_file(key) or key not in SETTINGS or not setting_is_plain(key, value):
            if not is_off(value):
                changes.dropped.append(key)
        else:
            document[key] = value
    return changes.rewritten(document)


def rewrite_special_tokens(raw: Mapping[str, Any]) -> Rewritten:
    """special_tokens_map.json with the special tokens alone."""
    changes = Changes("special_tokens_map.json")
    changes.dropped.extend(key for key in raw if key not in SPECIAL_TOKENS)
    return changes.rewritten({key: value for key, value in raw.items() if key in SPECIAL_TOKENS and value is not False})


def rewrite_processor(raw: Mapping[str, Any]) -> Rewritten:
    """A processor's settings with its chat template alone: what it does with images is not audited."""
    value = raw.get("chat_template")
    return Rewritten({} if value is None else {"chat_template": value})
