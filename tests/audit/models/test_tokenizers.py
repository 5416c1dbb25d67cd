"""What tokenizer.json says is what prompts are read with, whatever class tokenizer_config.json names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from audit.errors import ModelRejected, ModelsIncompatible
from audit.models.pair import load_pair
from audit.models.tokenizers import TokenizerComparison, load_tokenizer
from tests.audit.small_models import small_model

TEXT = "In 1234567 steps, count 2024 words:\n  don't stop <|end|> now"
CLASSES = [
    ("qwen2", "PreTrainedTokenizerFast"),
    ("qwen2", None),
    ("qwen3", "GPT2Tokenizer"),
    ("llama", "GPT2Tokenizer"),
    ("llama", "Qwen2Tokenizer"),
    ("llama", "LlamaTokenizerFast"),
    ("starcoder2", "GPT2Tokenizer"),
    ("gpt_neox", "GPTNeoXTokenizerFast"),
    ("gemma", "GemmaTokenizer"),
    ("mistral", "LlamaTokenizer"),
    ("phi3", "LlamaTokenizer"),
    ("gpt2", "NoSuchTokenizer"),
]


def digits_by_threes(**parts: Any) -> Tokenizer:
    """A byte-level tokenizer that splits numbers from the right by threes, which no class does by itself."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers_regex(), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["count 123 456 789 2024 202 words and don't stop 1234567"] * 4, trainer)
    for name, part in parts.items():
        setattr(inner, name, part)
    return inner


def tokenizers_regex() -> Any:
    from tokenizers import Regex

    return Regex(r"\d{1,3}(?=(?:\d{3})*\b)|\s+|\w+|[^\s\w]+")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, model_type: str = "llama", settings: Any = None, **parts: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        CONFIG_MAPPING[model_type]().save_pretrained(folder)
        digits_by_threes(**parts).save(str(folder / "tokenizer.json"))
        given = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | (settings or {})
        (folder / "tokenizer_config.json").write_text(json.dumps(given))
        return folder

    return write


@pytest.mark.parametrize(("model_type", "named"), CLASSES)
def test_the_class_that_is_named_changes_no_token(write: Callable[..., Path], model_type: str, named: str) -> None:
    folder = write("model", model_type, {} if named is None else {"tokenizer_class": named})
    expected = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer(TEXT, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded["input_ids"] == expected.encode(TEXT, add_special_tokens=False).ids
    assert encoded["offset_mapping"] == expected.encode(TEXT, add_special_tokens=False).offsets
    assert tokenizer.decode(encoded["input_ids"], clean_up_tokenization_spaces=False) == TEXT
    assert (tokenizer.eos_token, tokenizer.pad_token_id) == ("</s>", 0)


def test_what_the_file_adds_around_a_prompt_is_added(write: Callable[..., Path]) -> None:
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = load_tokenizer(write("model", post_processor=begin))
    assert tokenizer("count", add_special_tokens=True)["input_ids"][0] == 1
    assert tokenizer("count", add_special_tokens=False)["input_ids"][0] != 1


@pytest.mark.parametrize(
    "settings",
    [
        {"split_special_tokens": True},
        {"added_tokens_decoder": {"399": {"content": "steps", "special": False}}},
        {"additional_special_tokens": ["steps"]},
    ],
)
def test_settings_that_would_change_tokens_are_refused_by_file_and_class(
    write: Callable[..., Path], settings: dict[str, Any]
) -> None:
    folder = write("model", settings={"tokenizer_class": "Qwen2Tokenizer", **settings})
    tokenizer = load_tokenizer(folder)
    assert tokenizer("now", add_special_tokens=False)["input_ids"]
    with pytest.raises(ModelRejected, match=r"tokenizer\.json.*Qwen2Tokenizer"):
        tokenizer(TEXT, add_special_tokens=False)


def test_padding_and_truncation_of_the_file_do_not_matter(write: Callable[..., Path]) -> None:
    folder = write("model", settings={"additional_special_tokens": ["never seen"]})
    document = json.loads((folder / "tokenizer.json").read_text())
    document["padding"] = {
        "strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    document["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    assert 5 < len(load_tokenizer(folder)(TEXT, add_special_tokens=False, truncation=False)["input_ids"]) < 100


@pytest.mark.parametrize(
    ("changed", "part", "special"),
    [
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)}, "pre_tokenizer", False),
        (
            {"post_processor": processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])},
            "post_processor",
            True,
        ),
    ],
)
def test_a_tuned_tokenizer_that_gives_other_tokens_is_found_at_the_prompt(
    write: Callable[..., Path], changed: dict[str, Any], part: str, special: bool
) -> None:
    base, tuned = write("base"), write("tuned", **changed)
    tokenizer = load_tokenizer(base)
    comparison = TokenizerComparison(tokenizer, tuned)
    tokenizer.compare_with(comparison)
    assert comparison.differences == (part,)
    with pytest.raises(ModelsIncompatible, match=f"'{part}'"):
        tokenizer(TEXT, add_special_tokens=special)
    if special:
        tokenizer(TEXT, add_special_tokens=False)  # a rendered chat has its special tokens in it
        comparison.check([TEXT])


def test_a_pair_compares_every_prompt_that_it_reads(write: Callable[..., Path], tmp_path: Path) -> None:
    folders = []
    for seed, name in enumerate(("base", "tuned")):
        begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        folder = write(name, **({"post_processor": begin} if name == "tuned" else {}))
        (folder / "config.json").unlink()
        small_model("llama", seed, vocab_size=400).save_pretrained(folder)
        folders.append(folder)
    pair = load_pair(*folders, dtype="float32")
    pair.tokenizer(TEXT, add_special_tokens=False)
    with pytest.raises(ModelsIncompatible, match="'post_processor'"):
        pair.tokenizer(TEXT, add_special_tokens=True)
    shutil.copyfile(folders[0] / "tokenizer.json", folders[1] / "tokenizer.json")
    load_pair(*folders, dtype="float32").tokenizer(TEXT, add_special_tokens=True)
