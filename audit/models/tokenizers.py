"""The tokens of tokenizer.json, and nothing else's.

transformers builds a tokenizer from the class that tokenizer_config.json or the model's type names, and many of those
classes bring a pre-tokeniser of their own in place of the file's. Here the general class loads the file as it is, and
where anything is different from the file all the same, every prompt is read with both (decision 0162).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from audit.errors import ModelRejected, ModelsIncompatible

_FILE: Final = "tokenizer.json"
_PARTS: Final = ("model", "added_tokens", "pre_tokenizer", "normalizer", "post_processor")


class CheckpointTokenizer(PreTrainedTokenizerFast):
    """A checkpoint's tokenizer; each call is held against its file, and against the fine-tuned model's tokenizer."""

    def watch(self, file: Tokenizer, named: str | None) -> None:
        """Hold each call against the tokenizer of the file.

        Args:
            file: the checkpoint's tokenizer.json.
            named: the class that tokenizer_config.json names.
        """
        file.no_padding()
        file.no_truncation()
        same = not _differences(file, self.backend_tokenizer) and not self.split_special_tokens
        self._file: Tokenizer | None = None if same else file
        self._named = named
        self._comparison: TokenizerComparison | None = None

    def compare_with(self, comparison: "TokenizerComparison | None") -> None:
        """Hold each call against another checkpoint's tokenizer."""
        self._comparison = comparison

    def __call__(self, text: str, **options: Any) -> Any:
        """Encode a text, as the class above does.

        Raises:
            ModelRejected: the file gives other tokens.
            ModelsIncompatible: the fine-tuned model's tokenizer does.
        """
        encoded = super().__call__(text, **options)
        special = options.get("add_special_tokens", True)
        if self._file is not None:
            self._check_against_file(text, encoded["input_ids"], special=special)
        if self._comparison is not None:
            self._comparison.check_ids(text, encoded["input_ids"], special=special)
        return encoded

    def _check_against_file(self, text: str, ids: list[int], *, special: bool) -> None:
        # What settings add around a prompt is no part of the file; both checkpoints' are compared with each other.
        own = super().__call__(text, add_special_tokens=False)["input_ids"] if special else ids
        if self._file is not None and self._file.encode(text, add_special_tokens=False).ids != own:
            raise ModelRejected(
                f"{_FILE} gives other tokens for {text[:40]!a} than the tokenizer that tokenizer_config.json makes of "
                f"it (tokenizer_class: {self._named or 'not given'})",
                hint="save the tokenizer again with tokenizer.save_pretrained(folder)",
            )


def load_tokenizer(folder: Path) -> CheckpointTokenizer:
    """The checkpoint's tokenizer, as tokenizer.json has it.

    Raises:
        ModelRejected: there is none, or it cannot be read.
    """
    if not (folder / _FILE).is_file():
        raise ModelRejected(
            f"the checkpoint has no fast tokenizer ({_FILE})",
            hint="save it with AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
        )
    settings = folder / "tokenizer_config.json"
    try:
        with panics_as_errors():
            given = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
            file = Tokenizer.from_file(str(folder / _FILE))
            tokenizer = CheckpointTokenizer.from_pretrained(folder, local_files_only=True)
            tokenizer.watch(file, given.get("tokenizer_class"))
    except Exception as error:
        raise ModelRejected(
            f"{_FILE} cannot be read: {type(error).__name__}",
            hint="save it again with tokenizer.save_pretrained(folder)",
        ) from error
    return tokenizer


def check_vocabulary(base: Any, tokens: Sequence[str] | None) -> None:
    """Compare the vocabulary that a GGUF file brings with the base's; it may have more, or pad what the base lacks.

    Args:
        base: the base's tokenizer.
        tokens: by number; None where the fine-tuned model is in no such file.

    Raises:
        ModelsIncompatible: a number of the base's is another token there, or none.
    """
    for token, number in base.get_vocab().items() if tokens is not None else ():
        if number >= len(tokens or ()) or (tokens or ())[number] != token:
            raise ModelsIncompatible(
                f"number {number} of the GGUF file's vocabulary is another token than the base's {token[:40]!a}",
                hint="set base_model to the model that this one was fine-tuned from",
            )


class TokenizerComparison:
    """Both tokenizers, where the fine-tuned checkpoint brings one of its own.

    The audit reads prompts with the base's. What counts is that the other gives the same ids for the same prompts.

    Args:
        base: the base's tokenizer.
        tuned_dir: the fine-tuned checkpoint, which has a tokenizer.json.

    Raises:
        ModelRejected: it cannot be read.
    """

    def __init__(self, base: CheckpointTokenizer, tuned_dir: Path) -> None:
        self._tuned = load_tokenizer(tuned_dir)
        self._base = base
        self.differences = _differences(base.backend_tokenizer, self._tuned.backend_tokenizer)

    def check(self, texts: Iterable[str]) -> None:
        """Compare what both make of texts, without what they add around them.

        Raises:
            ModelsIncompatible: they give different ids.
            ModelRejected: one of them gives others than its file.
        """
        if self.differences:
            for text in texts:
                self.check_ids(text, self._base(text, add_special_tokens=False)["input_ids"], special=False)

    def check_ids(self, text: str, ids: list[int], *, special: bool) -> None:
        """Compare the ids that the base's gave for a text with the other's.

        Args:
            special: whether special tokens were added around it.

        Raises:
            ModelsIncompatible: they are others.
            ModelRejected: the other gives others than its file.
        """
        if self.differences and self._tuned(text, add_special_tokens=special)["input_ids"] != ids:
            raise ModelsIncompatible(
                f"the tokenizers differ in '{self.differences[0]}', and give different tokens for {text[:40]!a}",
                hint="both models must read the same tokens: save the base's tokenizer with the fine-tuned model",
            )


def _differences(one: Tokenizer, other: Tokenizer) -> tuple[str, ...]:
    """The parts in which two tokenizers differ."""
    # Written by the same library: older ones wrote the same merges in another form.
    contents = [json.loads(tokenizer.to_str()) for tokenizer in (one, other)]
    return tuple(part for part in _PARTS if contents[0].get(part) != contents[1].get(part))


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise ``RuntimeError`` where the tokenizers library panics, which is no ``Exception`` and has no public class."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the tokenizers library panicked") from error
