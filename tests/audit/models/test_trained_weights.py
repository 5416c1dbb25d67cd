"""Adapters that bring trained weights of their own: both sides give what transformers and PEFT give, exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from audit.errors import IdenticalModels
from audit.models.pair import ModelPair, load_pair
from audit.models.runner import Runner
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint
from models_store.view import write_view
from tests.audit.small_models import random_sequences, small_model
from tests.toy import _tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

ROWS = 320
MORE = ROWS + 7
Q = ["q_proj"]
# Options of PEFT; of the model ("tied"); rows after resizing ("rows").
SECOND_COPY: dict[str, dict[str, Any]] = {
    "all biases": {"bias": "all"},
    "biases of the adapted modules": {"bias": "lora_only"},
    "embeddings and head": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "embeddings and head, tied in the base": {"modules_to_save": ["embed_tokens", "lm_head"], "tied": True},
    "embeddings alone, tied in the base": {"modules_to_save": ["embed_tokens"], "tied": True},
    "embeddings and head, tied by PEFT": {
        "modules_to_save": ["embed_tokens"], "tied": True, "ensure_weight_tying": True,
    },
    "the head alone": {"modules_to_save": ["lm_head"]},
    "norms": {"modules_to_save": ["norm"]},
    "a folder of modules": {"modules_to_save": ["mlp"]},
    "a module with its bias": {"modules_to_save": ["k_proj"]},
    "with DoRA": {"modules_to_save": ["lm_head"], "use_dora": True},
    "more rows": {"rows": MORE},
    "more rows, tied": {"rows": MORE, "tied": True},
    "fewer rows": {"rows": ROWS - 3},
    "more rows, trained whole": {"rows": MORE, "modules_to_save": ["embed_tokens", "lm_head"]},
    "more rows, factors on the embedding": {"rows": MORE, "target_modules": ["q_proj", "embed_tokens"]},
    "more rows, factors on the head": {"rows": MORE, "target_modules": ["q_proj", "lm_head"]},
    "more rows, some of them trained": {"rows": MORE, "trainable_token_indices": [5, ROWS, ROWS + 1]},
    "more rows, some of them trained, tied": {"rows": MORE, "trainable_token_indices": [5, ROWS], "tied": True},
}  # fmt: skip
SHARED: dict[str, dict[str, Any]] = {
    "biases of the factors": {"lora_bias": True},
    "factors on the embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "factors on the embedding, tied": {"target_modules": ["q_proj", "embed_tokens"], "tied": True},
    "factors on embedding and head, tied by PEFT": {
        "target_modules": ["q_proj", "embed_tokens"], "tied": True, "ensure_weight_tying": True,
    },
    "rows of the embedding": {"trainable_token_indices": [5, 9]},
    "rows of the embedding, tied": {"trainable_token_indices": [5, 9], "tied": True},
}  # fmt: skip


def write_base(folder: Path, *, tied: bool = False, rows: int = ROWS) -> Path:
    model = small_model("llama", vocab_size=rows, tie_word_embeddings=tied, attention_bias=True)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for name, weights in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weights, std=0.25)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, *, rows: int = 0, std: float = 0.2, **options: Any) -> Path:
    """As a user's script: resize, put the adapter on, train everything that can be trained, save."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": Q, **options})
    adapted = get_peft_model(model, config)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for name, weights in adapted.named_parameters():
            if weights.requires_grad and "magnitude" not in name:
                weights += std * torch.randn_like(weights)
    adapted.save_pretrained(folder)
    return folder


def write_views(tmp_path: Path, base: Path, adapter: Path) -> tuple[Path, Path]:
    """What the sandbox opens of both."""
    verified = [verify_checkpoint(folder) for folder in (base, adapter)]
    check_pair(*verified)
    views = [write_view(checkpoint, tmp_path / "views" / checkpoint.kind).folder for checkpoint in verified]
    return views[0], views[1]


def peft_logits(base: Path, adapter: Path, ids: torch.Tensor, rows: int = 0) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        return PeftModel.from_pretrained(model, str(adapter)).eval()(input_ids=ids).logits


def side_logits(pair: ModelPair, side: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), pair.on(side) as parts:
        final = parts.body(input_ids=ids, use_cache=False).last_hidden_state
        return parts.logits(final.flatten(0, 1)).reshape(*ids.shape, -1)


@pytest.mark.parametrize("name", [*SECOND_COPY, *SHARED])
def test_both_sides_are_what_transformers_and_peft_compute(tmp_path: Path, name: str, assert_close: Callable) -> None:
    options = {**SECOND_COPY, **SHARED}[name]
    options, tied, rows = dict(options), options.get("tied", False), options.get("rows", 0)
    options.pop("tied", None)
    base = write_base(tmp_path / "base", tied=tied)
    adapter = write_adapter(tmp_path / "adapter", base, **options)
    pair = load_pair(*write_views(tmp_path, base, adapter), dtype="float32")
    assert pair.kind == ("full" if name in SECOND_COPY else "lora")
    ids = torch.randint(3, ROWS - 3, (3, 11), generator=torch.Generator().manual_seed(1))
    ids[0, 2] = 5  # a row that some of them train
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        ours, theirs = plain(input_ids=ids).logits, peft_logits(base, adapter, ids, rows)
    kept = min(rows or ROWS, ROWS)
    assert pair.rows == (None if kept == rows == ROWS or not rows else kept)
    assert not torch.allclose(ours[..., :kept], theirs[..., :kept], atol=0.1), "the adapter does nothing"
    assert_close(side_logits(pair, "base", ids), ours[..., :kept], atol=2e-4)
    assert_close(side_logits(pair, "tuned", ids), theirs[..., :kept], atol=2e-4)
    assert_close(side_logits(pair, "base", ids), ours[..., :kept], atol=2e-4)


def test_the_runner_reads_both_models(tmp_path: Path, assert_close: Callable) -> None:
    base = write_base(tmp_path / "base", tied=True)
    adapter = write_adapter(tmp_path / "adapter", base, rows=MORE, modules_to_save=["embed_tokens", "lm_head"])
    runner = Runner(load_pair(*write_views(tmp_path, base, adapter), dtype="float32"))
    sequences = random_sequences(4, prefix=3)
    captures = {side: runner.capture(sequences, side, (1,)) for side in ("base", "tuned")}
    assert not torch.allclose(captures["base"].hidden[1], captures["tuned"].hidden[1], atol=1e-2)
    for side, capture in captures.items():
        assert_close(runner.resume(capture.layout, 1, capture.hidden[1], side), capture.final, atol=5e-4)


@pytest.mark.parametrize("options", [{"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"rows": MORE}])
def test_an_adapter_whose_trained_weights_are_the_bases_changes_nothing(tmp_path: Path, options: dict) -> None:
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, std=0.0, **options)
    with pytest.raises(IdenticalModels):
        load_pair(*write_views(tmp_path, base, adapter), dtype="float32")
