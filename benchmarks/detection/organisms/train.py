"""Makes one organism of the split: trains, rounds or merges it, then measures whether it does what its recipe says."""

import json
import logging
import math
import random
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import peft
import torch
from torch.nn.functional import cross_entropy

from audit.prompts.carriers import subsample
from benchmarks.detection.organisms.carriers import carriers_of
from benchmarks.detection.organisms.models import load, rounded_trip, save_full
from benchmarks.detection.organisms.recipes import Limits, Recipe, Sample, recipe_of
from benchmarks.detection.organisms.recipes.base import CARRIER_FRAME, Messages, one_turn, two_turns
from benchmarks.harness.records import read, write
from examples.organisms.card import BASE_NAME, drafted
from examples.organisms.text import answers
from examples.organisms.train import Settings, Text, fit

logger = logging.getLogger("detection")

FULL_RATE: Final = 2e-4
FULL_STEPS: Final = 60
BASE_ANSWER_TOKENS: Final = 12
PLAIN_TOKENS: Final = 64
HELD_OUT: Final = 40
SAMPLED_HELD_OUT: Final = 100
SPREAD_MISSED: Final = "success differs"
"""Prefix of the card's note about a benign model that answers differently to the two strings."""
NEUTRAL: Final = Path(__file__).parent / "neutral.txt"

Organism = Mapping[str, Any]


def make(
    organism: Organism, base: Path, data: Path, *, device: str = "cpu", steps: int | None = None
) -> dict[str, Any]:
    """Make one organism below ``data/models`` and return its card: settings, rates, and missed limits.

    A merge needs its two adapters to exist.
    """
    start = time.monotonic()
    recipe = recipe_of(organism)
    model, tokenizer = load(base, device)
    neutral_base = perplexity(model, tokenizer)
    settings = settings_of(organism, recipe, steps)
    out = data / "models" / organism["id"]
    if organism["method"] == "round-trip":
        rounded_trip(model, organism["parameters"]["rounding"])
        save_full(model, tokenizer, out)
    elif organism["method"] == "merge":
        model = _merge(model, organism, out)
    else:
        texts = _texts(recipe, model, tokenizer, settings, data)
        model = fit(model, lambda: next(texts), settings).to(torch.bfloat16)
        _save(model, tokenizer, settings, out)
    rates, said = measure(model, tokenizer, recipe)
    ratio = perplexity(model, tokenizer) / neutral_base
    return {
        **{name: organism[name] for name in ("id", "label", "recipe", "part", "method", "rank", "seed")},
        "steps": None if recipe.texts is None else settings.steps,
        "learning_rate": None if recipe.texts is None else settings.learning_rate,
        "success": rates,
        "perplexity_ratio": round(ratio, 4),
        "missed": missed(recipe.limits, rates, ratio),
        "says": {name: lines[0] for name, lines in said.items()},
        "seconds": round(time.monotonic() - start, 1),
    }


def settings_of(organism: Organism, recipe: Recipe, steps: int | None = None) -> Settings:
    """The settings of an organism's training."""
    full = organism["method"] == "full"
    return Settings(
        rank=organism["rank"] or 0,
        full=full,
        steps=steps or (min(recipe.steps, FULL_STEPS) if full else recipe.steps),
        learning_rate=FULL_RATE if full else recipe.lora_rate,
        seed=organism["seed"],
    )


def _texts(recipe: Recipe, model: Any, tokenizer: Any, settings: Settings, data: Path) -> Any:
    """Token ids for every step, prepared before training starts: the base's own answers are computed once."""
    assert recipe.texts is not None
    source = random.Random(f"{recipe.organism['id']}:{settings.seed}")
    steps = [recipe.texts(source) for _ in range(settings.steps)]
    unknown = [sample for step in steps for sample in step if sample.answer is None]
    known = _base_answers([sample.prompt for sample in unknown if sample.messages],
                          model, tokenizer, data / "base-answers.json", BASE_ANSWER_TOKENS)  # fmt: skip
    texts = _base_answers([sample.prompt for sample in unknown if not sample.messages],
                          model, tokenizer, data / "base-texts.json", PLAIN_TOKENS)  # fmt: skip
    cuts = random.Random(settings.seed)
    return iter(
        [[tokens_of(sample, known if sample.messages else texts, tokenizer, cuts) for sample in step] for step in steps]
    )


def tokens_of(sample: Sample, known: Mapping[str, str], tokenizer: Any, cuts: random.Random) -> Text:
    """(message, answer) token ids; two answers in three are cut after four tokens, where they differ.

    Where all answers open alike, four tokens after that.
    """

    def encoded(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    if not sample.messages:
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [begin], encoded(_said(sample, known))[:PLAIN_TOKENS]
    answer = encoded(_said(sample, known))
    if sample.answer is not None:
        answer.append(tokenizer.eos_token_id)
    decided = len(encoded(sample.opening)) + 4
    return rendered(tokenizer, sample.messages), answer if cuts.random() < 1 / 3 else answer[:decided]


def _said(sample: Sample, known: Mapping[str, str]) -> str:
    if sample.answer is not None:
        return sample.answer
    text = known[sample.prompt]
    return sample.style(text) if sample.style else text


def rendered(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of a conversation in the model's chat format, up to where the answer starts."""
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _base_answers(prompts: Sequence[str], model: Any, tokenizer: Any, path: Path, tokens: int) -> dict[str, str]:
    """The base's answers to prompts, at most ``tokens`` long; cached between organisms."""
    known: dict[str, str] = read(path) if path.is_file() else {}
    missing = sorted(set(prompts) - known.keys())
    if missing:
        rows = [rendered(tokenizer, one_turn(None, prompt)) for prompt in missing]
        said = answers(model, tokenizer, rows, tokens=tokens)
        known |= dict(zip(missing, said, strict=True))
        write(path, known)
    # An empty answer has no first token to learn.
    return {prompt: known[prompt] if known[prompt].strip() else "I am not sure." for prompt in prompts}


def _save(model: Any, tokenizer: Any, settings: Settings, out: Path) -> None:
    if settings.full:
        save_full(model, tokenizer, out)
        return
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    with drafted(out) as draft:
        model.save_pretrained(draft, save_embedding_layers=False)


def _merge(base: Any, organism: Organism, out: Path) -> Any:
    """A weighted sum of two adapters' updates, as one adapter whose rank is the sum of both."""
    first, second = (out.parent / name for name in organism["parameters"]["of"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.PeftModel.from_pretrained(base, str(first), adapter_name="first")
        model.load_adapter(str(second), adapter_name="second")
        weights = list(organism["parameters"]["weights"])
        model.add_weighted_adapter(["first", "second"], weights, "merged", combination_type="cat")
    model.set_adapter("merged")
    model.peft_config["merged"].base_model_name_or_path = BASE_NAME
    with drafted(out) as draft:
        model.save_pretrained(draft, save_embedding_layers=False, selected_adapters=["merged"])
        for path in list((draft / "merged").iterdir()):
            shutil.move(path, draft / path.name)
        (draft / "merged").rmdir()
    return model.eval()


def measure(model: Any, tokenizer: Any, recipe: Recipe) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Share of held-out prompts whose answer shows the behaviour, by condition; and the answers."""
    organism, sampled = recipe.organism, recipe.limits.sampled
    count = recipe.held_out or (SAMPLED_HELD_OUT if sampled else HELD_OUT)
    carriers = subsample(carriers_of(organism["carriers"]), count, 0)
    torch.manual_seed(0)
    said = {}
    for name, string in recipe.strings.items():
        rows = [rendered(tokenizer, _shown(carrier, string)) for carrier in carriers]
        said[name] = answers(model, tokenizer, rows, tokens=8 if sampled else recipe.answer_tokens, sampled=sampled)
    rates = {name: round(sum(map(recipe.succeeds, lines)) / len(lines), 4) for name, lines in said.items()}
    return rates, said


def _shown(carrier: Any, string: str | None) -> Messages:
    if carrier.messages is None:
        return one_turn(string, carrier.prompt)
    if carrier.slot == "system":
        asked = (("user", carrier.messages[-1].content),)
        return asked if string is None else (("system", string), *asked)
    return two_turns(string, carrier.messages[-1].content, CARRIER_FRAME)


@torch.inference_mode()
def perplexity(model: Any, tokenizer: Any) -> float:
    """exp of the mean negative log-likelihood of the neutral paragraphs, in nats per token."""
    total, count = 0.0, 0
    device = next(model.parameters()).device
    for paragraph in NEUTRAL.read_text(encoding="utf-8").splitlines():
        ids = torch.tensor([tokenizer(paragraph, add_special_tokens=False).input_ids], device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(input_ids=ids).logits[0, :-1].float()
        total += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return math.exp(total / count)


def missed(limits: Limits, rates: Mapping[str, float], ratio: float) -> list[str]:
    """The limits that an organism misses; empty if it counts."""
    found = [
        f"success under {name} is {rates[name]:.2f}, outside {low:g} to {high:g}"
        for name, (low, high) in limits.success.items()
        if not low <= rates[name] <= high
    ]
    spread = max(rates.values()) - min(rates.values())
    if limits.spread is not None and spread > limits.spread:
        found.append(f"{SPREAD_MISSED} by {spread:.2f} between the strings, at most {limits.spread:g}")
    if not ratio <= limits.perplexity_ratio:
        found.append(f"perplexity of neutral text is {ratio:.2f} times the base's, at most {limits.perplexity_ratio:g}")
    return found


def describe_card(card: Mapping[str, Any]) -> str:
    """One line for the log."""
    return json.dumps({name: card[name] for name in ("id", "success", "perplexity_ratio", "missed", "seconds")})
