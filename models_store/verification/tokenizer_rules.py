"""Tokenizer files: ``tokenizer.json`` and its settings, none of which may name another file or a class to import."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from models_store.errors import ModelRejected
from models_store.files import READ_FILES, FoundFile, open_regular, shown
from models_store.verification.strict_json import read_object

_CLASS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_MAX_TEXT: Final = 10_000
_MAX_TEMPLATE: Final = READ_FILES["chat_template.jinja"]
_MAX_TEMPLATES: Final = 20
_MAX_TOKENS: Final = 1_000_000
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
_SPECIAL_TOKENS: Final = frozenset(
    {f"{kind}_token" for kind in ("bos", "eos", "unk", "pad", "sep", "cls", "mask", "image", "boi", "eoi", "audio")}
)
_SETTINGS: Final = _SPECIAL_TOKENS | {
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
# Older releases wrote these with a null; a name in them would be opened.
_FILE_KEYS: Final = frozenset({"tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file"})


def check_tokenizer(files: Sequence[FoundFile], *, required: bool) -> None:
    """Check every tokenizer file of a folder.

    Args:
        files: what the folder holds.
        required: whether ``tokenizer.json`` must be there (not for an adapter: its base has one).

    Raises:
        ModelRejected: ``tokenizer.json`` is missing or unusable, a setting names a file or is not on the list, a chat
            template is too long. The file and the key are named.
    """
    by_name = {file.name: file for file in files}
    if required and "tokenizer.json" not in by_name:
        raise ModelRejected(
            "tokenizer.json: is not there",
            hint="save the tokenizer with transformers' save_pretrained; other forms of tokenizers are not read",
        )
    if "tokenizer.json" in by_name:
        _check_tokenizer_json(by_name["tokenizer.json"])
    if "tokenizer_config.json" in by_name:
        _check_settings(_read(by_name["tokenizer_config.json"]))
    if "special_tokens_map.json" in by_name:
        name = "special_tokens_map.json"
        for key, value in _read(by_name[name]).items():
            if key not in _SPECIAL_TOKENS | {"additional_special_tokens", "extra_special_tokens"}:
                raise ModelRejected(f"{name}: the key '{shown(key)}' is not on the list", hint="delete the key")
            _check_token_value(name, key, value)
    for name in ("added_tokens.json", "vocab.json"):
        if name in by_name and not _is_vocabulary(_read(by_name[name], large=True)):
            raise ModelRejected(f"{name}: is not a list of tokens and their numbers", hint="save the tokenizer again")
    templates = [file for file in files if file.name.endswith(".jinja")]
    if len(templates) > _MAX_TEMPLATES:
        raise ModelRejected(f"there are more than {_MAX_TEMPLATES} chat templates (.jinja)", hint="keep one template")
    for file in templates:
        _check_template_file(file)


def _read(file: FoundFile, *, large: bool = False) -> dict[str, Any]:
    return read_object(file.path, file.name, limit=READ_FILES[file.name], large=large)


def _check_tokenizer_json(file: FoundFile) -> None:
    document = read_object(file.path, file.name, limit=READ_FILES[file.name], depth=None, large=True)
    for key in sorted(document.keys() - _TOKENIZER_JSON_KEYS):
        raise ModelRejected(
            f"tokenizer.json: the key '{shown(key)}' is not on the list", hint="save the tokenizer again"
        )
    if not isinstance(document.get("model"), dict):
        raise ModelRejected("tokenizer.json: holds no 'model'", hint="save the tokenizer again")


def _check_settings(settings: Mapping[str, Any]) -> None:
    name = "tokenizer_config.json"
    for key, value in settings.items():
        if key == "auto_map" or key == "custom_code":
            raise ModelRejected(
                f"{name}: the key '{key}' asks for code, which is never run",
                hint="delete the key; tokenizer.json is enough",
            )
        if (key.endswith(("_file", "_files")) or key in _FILE_KEYS) and value is not None:
            raise ModelRejected(
                f"{name}: '{shown(key)}' names a file; only tokenizer.json is read", hint="delete the key"
            )
        if key not in _SETTINGS:
            raise ModelRejected(f"{name}: the key '{shown(key)}' is not on the list", hint="delete the key")
        _check_setting(name, key, value)


def _check_setting(name: str, key: str, value: Any) -> None:
    if key == "chat_template":
        _check_template(name, value)
    elif key in ("tokenizer_class", "processor_class"):
        if value is not None and (not isinstance(value, str) or _CLASS_NAME.fullmatch(value) is None):
            raise ModelRejected(f"{name}: '{key}' is no name of a class", hint="delete the key")
    elif key == "added_tokens_decoder":
        if not isinstance(value, dict) or len(value) > _MAX_TOKENS or not all(map(_is_token, value.values())):
            raise ModelRejected(f"{name}: '{key}' is not a list of tokens", hint="save the tokenizer again")
    elif key == "sp_model_kwargs":
        if value not in ({}, None):
            raise ModelRejected(f"{name}: '{key}' must be empty", hint="delete the key; tokenizer.json is enough")
    elif key.endswith(("_token", "special_tokens")) and not key.startswith(("add_", "split_")):
        _check_token_value(name, key, value)
    elif not _plain(value) and not (isinstance(value, list) and len(value) < 100 and all(map(_plain, value))):
        raise ModelRejected(f"{name}: '{shown(key)}' has a value that is not plain", hint="delete the key")


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
    if isinstance(items, list):
        good = len(items) <= _MAX_TOKENS and all(map(_is_token, items))
    else:
        good = _is_token(items) or items is False
    if not good:
        raise ModelRejected(f"{name}: '{shown(key)}' is no token", hint="save the tokenizer again")


def _is_vocabulary(document: Mapping[str, Any]) -> bool:
    return len(document) <= 10 * _MAX_TOKENS and all(type(number) is int for number in document.values())


def _check_template(name: str, value: Any) -> None:
    if isinstance(value, list):
        named = all(isinstance(item, dict) and item.keys() == {"name", "template"} for item in value)
        if not named or len(value) > _MAX_TEMPLATES:
            raise ModelRejected(f"{name}: 'chat_template' is no list of named templates", hint="keep one template")
        texts = [text for item in value for text in item.values()]
    else:
        texts = [] if value is None else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ModelRejected(f"{name}: 'chat_template' is no text", hint="delete the key")
        if len(text) > _MAX_TEMPLATE:
            raise ModelRejected(f"{name}: 'chat_template' is longer than {_MAX_TEMPLATE} characters", hint="shorten it")


def _check_template_file(file: FoundFile) -> None:
    with open_regular(file.path, file.name) as opened:
        data = opened.read(_MAX_TEMPLATE + 1)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelRejected(f"{shown(file.name)}: is not UTF-8 text", hint="save the template as UTF-8") from error
