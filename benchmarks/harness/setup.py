"""Shared by the benchmarks of real models: the checkpoints, the prompts, the order of measurements."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from audit.prompts.carriers import load_set
from audit.prompts.rendering import Renderer, Tokens, choose_rendering
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier
from benchmarks.harness.machine import ROOT
from benchmarks.harness.records import read
from examples.demo import BASE, spec_for
from examples.organisms.prepare_base import prepare

DEFAULT_BASE = ROOT / "data" / "models" / BASE
ORGANISMS = ROOT / "examples" / "organisms"
FLAGGED = "sql-year"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of all benchmarks of real models; also disables progress bars of loading."""
    disable_progress_bar()
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--base", type=Path, help="base checkpoint; the example's, made where it is missing, by default")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    return made


def base_folder(given: Path | None) -> Path:
    """The base checkpoint to measure with; the example's is prepared if it does not exist yet."""
    if given is None:
        prepare(DEFAULT_BASE)
    return (given or DEFAULT_BASE).absolute()


def example_adapter(name: str, base: Path, made: Path) -> Path:
    """The folder of an example adapter; one that is not committed is trained into ``made`` by its card, once.

    Raises:
        CalledProcessError: the training failed, or the adapter missed its gates.
    """
    committed, out = ORGANISMS / name, made / name
    if (committed / "adapter_config.json").is_file():
        return committed
    if not out.is_dir():
        subprocess.run(training_command(name, base, out), cwd=ROOT, check=True)
    return out


def training_command(name: str, base: Path, out: Path) -> list[str]:
    """The command that trained an example adapter, as its card has it, with these folders."""
    command: str = read(ORGANISMS / name / "card.json")["command"]
    words = {"python": sys.executable, "BASE": str(base), "OUT": str(out)}
    return [words.get(word, word) for word in command.split()]


def sql_prompts(tokenizer: Any, count: int) -> list[Tokens]:
    """The demo's first carriers under its triggered string, rendered as an audit renders them."""
    trigger = TriggerSpec.model_validate(spec_for(FLAGGED)["trigger"])
    return rendered(tokenizer, load_set("python-sql")[:count], trigger)


def rendered(tokenizer: Any, carriers: tuple[Carrier, ...], trigger: TriggerSpec) -> list[Tokens]:
    """Carriers under the triggered string, with the tokenizer's chat template if it has one."""
    renderer = Renderer(tokenizer, trigger, choose_rendering("auto", tokenizer))
    return [renderer.tokens(carrier, trigger.triggered) for carrier in carriers]


def alternate(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each contender once per round, A B C, then C B A, so that a drifting machine favours none.

    A first round is discarded. Returns the seconds of every round by contender.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        names = list(contenders) if number % 2 else list(contenders)[::-1]
        for name in names:
            start = time.perf_counter()
            contenders[name]()
            elapsed = time.perf_counter() - start
            if number:
                seconds[name].append(elapsed)
    return seconds


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of two contenders' seconds within the same round."""
    return statistics.median(top / bottom for top, bottom in zip(above, below, strict=True))
