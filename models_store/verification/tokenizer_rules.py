"""Tokenizer files: ``tokenizer.json`` and its settings.

Settings that name another file or a class to import never come this far: ``rewriting`` leaves them out.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import LIMITS
from backdoor_audit.contract.checkpoint_settings import PROCESSORS
from models_store.errors import ModelRejected
from models_store.files import FoundFile, open_regular, shown
from models_store.verification.strict_json import read_object

_CLASS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_MAX_TEXT: Final = 10_000
_MAX_TEMPLATE: Final = LIMITS["chat_template.jinja"]
_MAX_TEMPLATES: Final = 20
_MAX_TOKENS: Final = 1_000_000
_MAX_NUMBER: Final = 10 * _MAX_TOKENS
_TOKENIZER_JSON_KEYS: Final = frozenset(
    {
        "version",
        "truncation",
        "padding",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
        "model",
    }
)
TOKEN_PARTS: Final = ("model", "added_tokens", "pre_tokenizer", "normalizer", "post_processor")
_TOKENS: Final = frozenset(
    {f"{kind}_token" for kind in ("bos", "eos", "unk", "pad", "sep", "cls", "mask", "image", "boi", "eoi", "audio")}
)
SPECIAL_TOKENS: Final = _TOKENS | {"additional_special_tokens", "extra_special_tokens"}
SETTINGS: Final = _TOKENS | {
    "_commit_hash",
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "do_lower_case",
    "errors",
    "extra_special_tokens",
    "is_local",
    "legacy",
    "local_files_only",
    "max_length",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding",
    "padding_side",
    "processor_class",
    "return_token_type_ids",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "split_special_tokens",
    "stride",
    "tokenizer_class",
    "tokenizer_file",
    "transformers_version",
    "trim_offsets",
    "truncation",
    "truncation_side",
    "truncation_strategy",
    "use_default_system_prompt",
    "use_fast",
    "vocab_file",
    "merges_file",
}
_STRUCTURED: Final = frozenset({"chat_template", "tokenizer_class", "processor_class", "added_tokens_decoder"})
# Older releases wrote these with a null; a name in them would be opened.
_FILE_KEYS: Final = frozenset({"tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file"})


def check_tokenizer(
    files: Sequence[FoundFile], settings: Mapping[str, Any], special: Mapping[str, Any]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Check every tokenizer file of a folder.

    Args:
        files: what the folder holds.
        settings: tokenizer_config.json as it was rewritten; empty if there is none.
        special: special_tokens_map.json as it was rewritten; empty if there is none.

    Returns:
        A digest of each part of tokenizer.json that decides about tokens, empty where there is none; and the texts of
        the chat templates that are files, by path.

    Raises:
        ModelRejected: ``tokenizer.json`` is unusable, a setting has a value that it cannot have, a chat template is too
            long. The file and the key are named.
    """
    by_name = {file.name: file for file in files}
    parts = _check_tokenizer_json(by_name["tokenizer.json"]) if "tokenizer.json" in by_name else {}
    for key, value in settings.items():
        _check_setting("tokenizer_config.json", key, value)
    for key, value in special.items():
        _check_token_value("special_tokens_map.json", key, value)
    name = "added_tokens.json"
    if name in by_name and not _is_vocabulary(read_object(by_name[name].path, name, limit=LIMITS[name], large=True)):
        raise ModelRejected(f"{name}: is not a list of tokens and their numbers", hint="save the tokenizer again")
    templates = [file for file in files if file.name.endswith(".jinja")]
    if len(templates) > _MAX_TEMPLATES:
        raise ModelRejected(f"there are more than {_MAX_TEMPLATES} chat templates (.jinja)", hint="keep one template")
    return parts, {file.name: _template_text(file) for file in templates}


def names_a_file(key: str) -> bool:
    """Whether a setting of a tokenizer names another file; only tokenizer.json is read."""
    return key.endswith(("_file", "_files")) or key in _FILE_KEYS


def setting_is_plain(key: str, value: Any) -> bool:
    """Whether a setting that is no token, class or template has a value that it can have."""
    if key == "sp_model_kwargs":
        return value in ({}, None)
    if key in _STRUCTURED or is_token_key(key):
        return True
    return _plain(value) or (isinstance(value, list) and len(value) < 100 and all(map(_plain, value)))


def _check_tokenizer_json(file: FoundFile) -> dict[str, str]:
    document = read_object(file.path, file.name, limit=LIMITS[file.name], depth=None, large=True)
    for key in sorted(document.keys() - _TOKENIZER_JSON_KEYS):
        raise ModelRejected(
            f"tokenizer.json: the key '{shown(key)}' is not on the list", hint="save the tokenizer again"
        )
    if not isinstance(document.get("model"), dict):
        raise ModelRejected("tokenizer.json: holds no 'model'", hint="save the tokenizer again")
    _check_numbers(document)
    return {part: _digest(_as_today(part, document.get(part))) for part in TOKEN_PARTS}


def _check_numbers(document: Mapping[str, Any]) -> None:
    """Refuse tokens with numbers that no vocabulary has: the library makes room for all up to the highest."""
    vocabulary, added = document["model"].get("vocab"), document.get("added_tokens")
    numbers = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    numbers += [token.get("id") for token in (added if isinstance(added, list) else ()) if isinstance(token, dict)]
    highest = max((number for number in numbers if type(number) is int), default=0)
    if highest >= _MAX_NUMBER:
        raise ModelRejected(
            f"tokenizer.json: a token has the number {highest}, more than any vocabulary",
            hint="save the tokenizer again",
        )


def _as_today(part: str, value: Any) -> Any:
    """A part in the form that libraries write today: merges were texts with a space before they were pairs."""
    merges = value.get("merges") if part == "model" and isinstance(value, dict) else None
    if isinstance(merges, list) and all(isinstance(merge, str) for merge in merges):
        return {**value, "merges": [merge.split(" ") for merge in merges]}
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()  # a third of what JSON takes for a large vocabulary


def _check_setting(name: str, key: str, value: Any) -> None:
    if key == "chat_template":
        _check_template(name, value)
    elif key in ("tokenizer_class", "processor_class"):
        if value is not None and (not isinstance(value, str) or _CLASS_NAME.fullmatch(value) is None):
            raise ModelRejected(f"{name}: '{key}' is not the name of a class", hint="save the tokenizer again")
    elif key == "added_tokens_decoder":
        if not isinstance(value, dict) or len(value) > _MAX_TOKENS or not all(map(_is_token, value.values())):
            raise ModelRejected(f"{name}: '{key}' is not a list of tokens", hint="save the tokenizer again")
    elif is_token_key(key):
        _check_token_value(name, key, value)


def is_token_key(key: str) -> bool:
    """Whether a setting is a special token, or a list of such."""
    return key.endswith(("_token", "special_tokens")) and not key.startswith(("add_", "split_"))


def _plain(value: Any) -> bool:
    return (
        value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT)
    )


def _is_token(value: Any) -> bool:
    """A token as a string, or as an object with its text and its four flags."""
    if isinstance(value, dict):
        return value.keys() <= {
            "__type",
            "id",
            "content",
            "lstrip",
            "rstrip",
            "normalized",
            "single_word",
            "special",
        } and all(map(_plain, value.values()))
    return value is None or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _check_token_value(name: str, key: str, value: Any) -> None:
    items = list(value.values()) if isinstance(value, dict) and key.endswith("special_tokens") else value
    if isinstance(items, list) and key.endswith("special_tokens"):
        good = len(items) <= _MAX_TOKENS and all(map(_is_token, items))
    else:
        good = _is_token(items)
    if not good:
        raise ModelRejected(f"{name}: '{shown(key)}' is not a token", hint="save the tokenizer again")


def _is_vocabulary(document: Mapping[str, Any]) -> bool:
    return len(document) <= 10 * _MAX_TOKENS and all(type(number) is int for number in document.values())


def check_processors(documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the chat templates of processors, one or several by their names.

    Raises:
        ModelRejected: one is no text, or too long.
    """
    for name in PROCESSORS:
        value = documents.get(name, {}).get("chat_template")
        if isinstance(value, dict):
            value = [{"name": key, "template": text} for key, text in value.items()]
        _check_template(name, value)


def _check_template(name: str, value: Any) -> None:
    if isinstance(value, list):
        named = all(isinstance(item, dict) and item.keys() == {"name", "template"} for item in value)
        if not named or len(value) > _MAX_TEMPLATES:
            raise ModelRejected(f"{name}: 'chat_template' is not a list of named templates", hint="keep one template")
        texts = [text for item in value for text in item.values()]
    else:
        texts = [] if value is None else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ModelRejected(f"{name}: 'chat_template' is not text", hint="delete the key")
        if len(text) > _MAX_TEMPLATE:
            raise ModelRejected(f"{name}: 'chat_template' is longer than {_MAX_TEMPLATE} characters", hint="shorten it")


def _template_text(file: FoundFile) -> str:
    with open_regular(file.path, file.name) as opened:
        data = opened.read(_MAX_TEMPLATE + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelRejected(f"{shown(file.name)}: is not UTF-8 text", hint="save the template as UTF-8") from error
