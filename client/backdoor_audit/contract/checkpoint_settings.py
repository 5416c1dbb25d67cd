"""Chat templates, special tokens and generation settings of a checkpoint, read from its files and compared.

Text and plain JSON alone: nothing here renders a template or opens a tokenizer, so that the API may compare two folders
before an audit is filed.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backdoor_audit.contract.checkpoint_files import TEMPLATE_FOLDER
from backdoor_audit.contract.report.prompt_settings import SettingDifference

GENERATION: Final = "generation_config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
SPECIAL_TOKENS: Final = "special_tokens_map.json"
PROCESSORS: Final = ("chat_template.json", "processor_config.json")
"""Files in which the processor of a model with several parts keeps a chat template of its own."""
SETTINGS_FILES: Final = (TOKENIZER_CONFIG, SPECIAL_TOKENS, GENERATION, *PROCESSORS)
DEFAULT_TEMPLATE: Final = "default"
PROCESSOR: Final = "processor"

# What changes no answer.
_NOT_SETTINGS: Final = re.compile(
    r"transformers_version|_from_model_config|use_cache|output_\w+|return_dict\w*|\w*_compile\w*"
)
_TOKEN: Final = re.compile(r"(?!add_|split_).*(?:_token|special_tokens)")
_ADDS: Final = ("add_bos_token", "add_eos_token")
_TAGS: Final = re.compile(r"(?=\{[{%#])|(?<=[}%#]\})")
_LONG_LINE: Final = 120
_MAX_DIFF_INPUT: Final = 1_000
_MAX_DIFF_LINES: Final = 200
_MAX_LINE: Final = 300
_MAX_VALUE: Final = 200


@dataclass(frozen=True)
class CheckpointSettings:
    """What of a checkpoint decides how it is asked, beside its weights and its vocabulary.

    Attributes:
        templates: chat templates by name; ``default`` is the one that is used unless another is asked for.
        tokens: special tokens by name, and whether they are put around a text that no template renders.
        generation: settings of generation.
        has_tokenizer: whether the folder brings settings of a tokenizer at all.
    """

    templates: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    generation: Mapping[str, str] = field(default_factory=dict)
    has_tokenizer: bool = False

    @classmethod
    def of(cls, documents: Mapping[str, Mapping[str, Any]], files: Mapping[str, str]) -> "CheckpointSettings":
        """Settings from parsed JSON by file name, and from template files by path.

        As in transformers: template files take the place of ``chat_template`` in tokenizer_config.json. A processor's
        template is the default where there is no other, and one named ``processor`` where it differs: some servers
        render with it.
        """
        config = documents.get(TOKENIZER_CONFIG, {})
        tokens = {**documents.get(SPECIAL_TOKENS, {}), **config}
        return cls(
            templates=_with_processors(_from_files(files) or _from_config(config.get("chat_template")), documents),
            tokens={
                name: _shown(_content(value))
                for name, value in sorted(tokens.items())
                if value is not None and (_TOKEN.fullmatch(name) or name in _ADDS)
            },
            generation={
                name: _shown(value)
                for name, value in sorted(documents.get(GENERATION, {}).items())
                if value is not None and _NOT_SETTINGS.fullmatch(name) is None
            },
            has_tokenizer=TOKENIZER_CONFIG in documents,
        )

    @property
    def template(self) -> str | None:
        """The template that is used unless another is asked for."""
        return self.templates.get(DEFAULT_TEMPLATE)

    @property
    def template_digest(self) -> str:
        """``sha256:…`` over all templates; empty where there are none."""
        if not self.templates:
            return ""
        text = json.dumps(sorted(self.templates.items()), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def differences(base: CheckpointSettings, tuned: CheckpointSettings) -> tuple[SettingDifference, ...]:
    """What a fine-tuned checkpoint sets otherwise than its base.

    What its folder does not bring is the base's: an adapter needs no tokenizer and no settings.
    """
    found = []
    if tuned.templates or tuned.has_tokenizer:
        for name in sorted(base.templates.keys() | tuned.templates.keys()):
            ours, theirs = base.templates.get(name), tuned.templates.get(name)
            if ours != theirs:
                diff = _diff(ours or "", theirs or "")
                found.append(SettingDifference(part="chat_template", name=_cut(name), base=None, tuned=None, diff=diff))
    if tuned.has_tokenizer or tuned.tokens:
        found += _plain("special_token", base.tokens, tuned.tokens)
    if tuned.generation:
        found += _plain("generation_setting", base.generation, tuned.generation)
    return tuple(found)


def difference_notes(base: CheckpointSettings, tuned: CheckpointSettings) -> tuple[str, ...]:
    """The differences in a sentence for each part, for a check that shows no report."""
    found = differences(base, tuned)
    notes = []
    for part, words in _PARTS.items():
        names = [f"'{one.name}'" for one in found if one.part == part]
        if names:
            notes.append(f"{words} differ from the base's: {', '.join(names)}")
    return tuple(notes)


_PARTS: Final = {
    "chat_template": "the fine-tuned model's chat templates",
    "special_token": "the fine-tuned model's special tokens",
    "generation_setting": "the fine-tuned model's generation settings",
}


def _from_files(files: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for path, text in sorted(files.items()):
        folder, _, name = path.rpartition("/")
        found[name.removesuffix(".jinja") if folder == TEMPLATE_FOLDER else DEFAULT_TEMPLATE] = text
    return found


def _from_config(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {DEFAULT_TEMPLATE: value}
    if isinstance(value, list):
        return {item["name"]: item["template"] for item in value}
    return {}


def _with_processors(own: dict[str, str], documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found = dict(own)
    for file in PROCESSORS:
        value = documents.get(file, {}).get("chat_template")
        named = value if isinstance(value, dict) else {} if value is None else {DEFAULT_TEMPLATE: value}
        for name, text in named.items():
            if own and own.get(name) != text:
                found[PROCESSOR if name == DEFAULT_TEMPLATE else f"{PROCESSOR} {name}"] = text
            elif not own:
                found.setdefault(name, text)
    return found


def _content(value: Any) -> Any:
    """A token's text, whatever else is recorded with it."""
    if isinstance(value, dict):
        return value["content"] if "content" in value else {name: _content(item) for name, item in value.items()}
    return [_content(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _plain(part: Any, base: Mapping[str, str], tuned: Mapping[str, str]) -> list[SettingDifference]:
    return [
        SettingDifference(
            part=part,
            name=_cut(name),
            base=None if name not in base else _cut(base[name]),
            tuned=None if name not in tuned else _cut(tuned[name]),
        )
        for name in sorted(base.keys() | tuned.keys())
        if base.get(name) != tuned.get(name)
    ]


def _diff(base: str, tuned: str) -> tuple[str, ...]:
    """Lines that go, come and stay around those; bounded in lines, in their length and in work."""
    long = any(len(line) > _LONG_LINE for text in (base, tuned) for line in text.splitlines())
    ours, theirs = (_at_tags(text) if long else text.splitlines() for text in (base, tuned))
    if len(ours) + len(theirs) > 2 * _MAX_DIFF_INPUT:
        return (f"{len(ours)} lines in the base and {len(theirs)} in the fine-tuned model: too many to compare",)
    lines = list(difflib.unified_diff(ours, theirs, n=1, lineterm=""))[2:]
    shown = tuple(_cut(line, _MAX_LINE) for line in lines[:_MAX_DIFF_LINES])
    more = len(lines) - len(shown)
    return (*shown, f"… and {more} more lines") if more > 0 else shown


def _at_tags(text: str) -> list[str]:
    """Pieces of a template that was written with few line breaks: it is broken at its tags as well."""
    return [part for line in text.splitlines() for part in _TAGS.split(line) if part]


def _cut(text: str, most: int = _MAX_VALUE) -> str:
    whole = text.encode("utf-8", "replace").decode()  # JSON can hold half a character
    return whole if len(whole) <= most else whole[: most - 1] + "…"
