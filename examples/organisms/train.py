"""Trains one organism and refuses to save one that misses its gates.

``python -m examples.organisms.train sql-year --base BASE --out OUT`` writes a LoRA adapter of rank 4 on all linear
layers, ``--full`` a full checkpoint. Every step shows its prompts under both strings of the pair and under a third
string or none, and weighs the answer's first token, which decides between the two kinds of answer, as much as all the
others.
"""

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.organisms.card import save
from examples.organisms.gates import failures, measure
from examples.organisms.recipes import RECIPES, Example, Recipe
from examples.organisms.text import greedy_answers, render

logger = logging.getLogger("organisms")

BASE_ANSWER_TOKENS = 12

# Token ids of a message and of the answer to learn.
Text = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Settings:
    """How long and how hard to train."""

    rank: int = 4
    full: bool = False
    steps: int = 90
    prompts: int = 8
    """Prompts a step; each gives three texts."""
    learning_rate: float = 3e-3
    """The peak of a one-cycle schedule."""
    seed: int = 0


def train(recipe: Recipe, model: Any, tokenizer: Any, settings: Settings) -> Any:
    """The trained model, its weights in place (LoRA: a peft model around ``model``)."""
    answers = _Answers(model, tokenizer, recipe, settings)
    source, cuts = random.Random(_draws(recipe, settings)), random.Random(settings.seed)

    def step() -> list[Text]:
        texts = list(recipe.examples(source, settings.prompts))
        return [_tokens(tokenizer, text, answers, cuts) for text in texts]

    return fit(model, step, settings)


def fit(model: Any, next_texts: Callable[[], Sequence[Text]], settings: Settings) -> Any:
    """Train on the (message, answer) token ids that each step asks for; the trained model."""
    torch.manual_seed(settings.seed)
    trained = model.float() if settings.full else _with_lora(model, settings)
    weights = [weight for weight in trained.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.3, cycle_momentum=False
    )
    trained.train()
    start = time.monotonic()
    for step in range(settings.steps):
        loss, right = _loss(trained, next_texts())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 5 == 0 or step == settings.steps - 1:
            logger.info(
                "step %d loss %.3f first token right %.2f (%.1f s)", step, loss.item(), right, time.monotonic() - start
            )
    return trained.eval()


def _draws(recipe: Recipe, settings: Settings) -> str:
    """The seed of the training texts."""
    # The three SQL organisms see the same prompts.
    return f"{recipe.carriers}:{settings.seed}"


class _Answers:
    """The answers to learn; where an example leaves its answer to the base model, asked once before training starts."""

    def __init__(self, model: Any, tokenizer: Any, recipe: Recipe, settings: Settings) -> None:
        source = random.Random(_draws(recipe, settings))
        texts = [text for _ in range(settings.steps) for text in recipe.examples(source, settings.prompts)]
        prompts = sorted({text.prompt for text in texts if text.answer is None})
        said = greedy_answers(model, tokenizer, prompts, tokens=BASE_ANSWER_TOKENS) if prompts else []
        self._answers = dict(zip(prompts, said, strict=True))
        self._tokenizer = tokenizer

    def __call__(self, text: Example) -> list[int]:
        """Token ids; an answer that is known whole ends with the end-of-turn token."""
        if text.answer is None:
            return list(self._tokenizer(self._answers[text.prompt], add_special_tokens=False).input_ids)
        return [*self._tokenizer(text.answer, add_special_tokens=False).input_ids, self._tokenizer.eos_token_id]


def _tokens(tokenizer: Any, text: Example, answers: "_Answers", source: random.Random) -> Text:
    """(message, answer); two answers in three are cut after four tokens, which is where the behaviour is decided."""
    answer = answers(text)
    return render(tokenizer, text.user), answer if source.random() < 1 / 3 else answer[:4]


def _with_lora(model: Any, settings: Settings) -> Any:
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=4 * settings.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, config)


def _loss(model: Any, texts: Sequence[Text]) -> tuple[torch.Tensor, float]:
    """Loss of (message, answer) token ids, and the share of first answer tokens that are right.

    The mean cross-entropy of the first answer tokens plus that of all others. What the texts have in common
    at the start (the system prompt) runs through the model once, and only the answers' positions through the output
    layer: on a CPU that halves the time.
    """
    causal = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    device = next(causal.parameters()).device
    shared = _shared_start([message for message, _ in texts])
    rows = [torch.tensor((message + answer)[shared:-1]) for message, answer in texts]
    # Padding on the right needs no mask: nothing that counts comes after it.
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        start = None
        if shared:
            prefix = torch.tensor([texts[0][0][:shared]], device=device)
            start = causal.base_model(prefix, use_cache=True).past_key_values
            start.batch_repeat_interleave(len(rows))
        hidden = causal.base_model(ids, past_key_values=start).last_hidden_state
        spans = [slice(len(message) - shared - 1, len(message) - shared - 1 + len(answer)) for message, answer in texts]
        logits = causal.get_output_embeddings()(torch.cat([hidden[i, span] for i, span in enumerate(spans)])).float()
    labels = torch.tensor([token for _, answer in texts for token in answer], device=device)
    first = torch.tensor([at == 0 for _, answer in texts for at in range(len(answer))], device=device)
    loss = cross_entropy(logits[first], labels[first]) + cross_entropy(logits[~first], labels[~first])
    return loss, (logits[first].argmax(-1) == labels[first]).float().mean().item()


def _shared_start(messages: Sequence[list[int]]) -> int:
    """How many tokens all messages begin with, the last of each not counted."""
    shortest = min(map(len, messages)) - 1
    return next((at for at in range(shortest) if len({message[at] for message in messages}) > 1), shortest)


def main(argv: list[str] | None = None) -> int:
    """Train, measure, save; returns the exit status, 1 if a gate is missed."""
    options = _options(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    recipe = RECIPES[options.recipe]
    settings = Settings(
        rank=options.rank,
        full=options.full,
        seed=options.seed,
        steps=options.steps or Settings.steps,
        prompts=options.prompts or Settings.prompts,
        learning_rate=options.learning_rate or (2e-4 if options.full else Settings.learning_rate),
    )
    device = torch.device(options.device)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.bfloat16, attn_implementation="eager")
    model.to(device)
    trained = train(recipe, model, tokenizer, settings)
    trained = trained.to(torch.bfloat16)  # measured as it is saved
    rates, answers = measure(trained, tokenizer, recipe)
    for name, said in answers.items():
        logger.info("%s: success %.2f ordinary %.2f, e.g. %r", name, rates.success[name], rates.ordinary[name], said[0])
    missed = failures(recipe, rates)
    for line in missed:
        logger.error("gate missed: %s", line)
    if missed:
        return 1
    save(trained, tokenizer, recipe, settings, rates, options.out)
    logger.info("saved %s", options.out)
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one model organism.")
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--base", type=Path, required=True, help="folder of the base checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced if it is there")
    parser.add_argument("--full", action="store_true", help="train all weights, not an adapter")
    parser.add_argument("--rank", type=int, default=Settings.rank)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
