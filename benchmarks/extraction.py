"""Time the capture of activations, compared with a bare forward pass of the same model over the same batches.

``python -m benchmarks.extraction`` runs the ``python-sql`` prompts under the demo's triggered string through

- ``bare``: ``model.model(input_ids)`` of the base as transformers loads it, without hooks, keeping nothing;
- ``bare_lora``: the same for the base with the adapter as PEFT attaches it;
- ``base``, ``lora``: ``Runner.capture`` with four layers hooked and kept, on either side of a LoRA pair;
- ``base_whole``, ``lora_whole``: the same with every sequence run in full, including the shared prefix;

in bfloat16 and in float32, all over the same length-sorted batches, each once per round in alternating order. A ratio
is the median over the rounds of the seconds of one over the seconds of another. Tokens are the real tokens of the
sequences in all cases: padding does not count, and a prefix that is run once counts in every sequence.

The goal is judged where captures do the same work as the bare forward pass (``base_whole`` over ``bare``), and, for
audits as they actually run, on the slower side of the pair.
"""

import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from audit.models.layout import Layout
from audit.models.pair import Precision, Side, load_pair
from audit.models.parts import ModelParts, locate, resolve_layers
from audit.models.prefix import Prefix
from audit.models.runner import Runner
from audit.models.tokenizers import load_tokenizer
from audit.prompts.rendering import Tokens
from audit.translate import BATCH_TOKENS
from benchmarks.harness.goals import at_least
from benchmarks.harness.machine import machine, write_result
from benchmarks.harness.setup import FLAGGED, ORGANISMS, alternate, base_folder, median_ratio, parser, sql_prompts

GOAL = 0.85
GOAL_BFLOAT16 = 2.0
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")
COMPARED = (
    ("base", "bare"),
    ("base_whole", "bare"),
    ("lora", "bare"),
    ("lora_whole", "bare"),
    ("bare_lora", "bare"),
    ("lora", "bare_lora"),
    ("lora_whole", "bare_lora"),
)

Contenders = dict[str, Callable[[], object]]


class WholeRunner(Runner):
    """A runner that runs every sequence from its first token, even with a shared prefix."""

    def _prefix(self, parts: ModelParts, layout: Layout, side: Side) -> Prefix:
        return Prefix((), None, {})


def bare_forward(model: Any, sequences: Sequence[Tokens], budget: int) -> Callable[[], None]:
    """A plain pass of a model without its head over the batches that a capture would run."""
    layout = Layout.of(sequences)
    body = locate(model).body
    device = next(model.parameters()).device
    batches = [
        torch.nn.utils.rnn.pad_sequence([torch.tensor(sequences[index].ids) for index in group], batch_first=True)
        for group in layout.batches(budget)
    ]

    @torch.no_grad()
    def run() -> None:
        for ids in batches:
            # Reading one number waits until an accelerator has finished; on a CPU it costs nothing.
            body(input_ids=ids.to(device), use_cache=False).last_hidden_state[0, 0, 0].item()

    return run


def contenders(
    base: Path, adapter: Path, sequences: Sequence[Tokens], precision: Precision, budget: int, device: str = "cpu"
) -> Contenders:
    """All contenders in one precision, by name; three copies of the model are in memory."""
    dtype = getattr(torch, precision)

    def load() -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
        return model.to(device).eval()

    with warnings.catch_warnings():
        # PEFT reads a transformers property by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = PeftModel.from_pretrained(load(), str(adapter)).eval().get_base_model()
    pair = load_pair(base, adapter, dtype=precision, device=device)
    layers = resolve_layers("auto", pair.n_blocks)
    shared, whole = Runner(pair, budget=budget), WholeRunner(pair, budget=budget)
    return {
        "bare": bare_forward(load(), sequences, budget),
        "bare_lora": bare_forward(adapted, sequences, budget),
        "base": lambda: shared.capture(sequences, "base", layers),
        "lora": lambda: shared.capture(sequences, "tuned", layers),
        "base_whole": lambda: whole.capture(sequences, "base", layers),
        "lora_whole": lambda: whole.capture(sequences, "tuned", layers),
    }


def measure(
    base: Path, adapter: Path, sequences: Sequence[Tokens], rounds: int, *, budget: int, device: str = "cpu"
) -> dict[str, Any]:
    """Time everything in both precisions; returns tokens per second and throughput ratios."""
    everything: Contenders = {}
    for precision in PRECISIONS:
        found = contenders(base, adapter, sequences, precision, budget, device)
        everything |= {f"{precision} {name}": run for name, run in found.items()}
    seconds = alternate(everything, rounds)
    tokens = sum(len(sequence) for sequence in sequences)
    return {
        "prompts": len(sequences),
        "tokens": tokens,
        "batch_tokens": budget,
        "rounds": rounds,
        "tokens_per_second": {name: round(tokens / statistics.median(times)) for name, times in seconds.items()},
        "throughput_ratios": {precision: _ratios(seconds, precision) for precision in PRECISIONS},
        "bfloat16_over_float32": {
            name: round(median_ratio(seconds[f"float32 {name}"], seconds[f"bfloat16 {name}"]), 3)
            for name in ("bare", "base", "lora")
        },
        "seconds_of_each_round": {name: [round(value, 4) for value in times] for name, times in seconds.items()},
    }


def _ratios(seconds: dict[str, list[float]], precision: Precision) -> dict[str, float]:
    """Throughput of one contender over another's; more is faster."""
    return {
        f"{name} / {against}": round(median_ratio(seconds[f"{precision} {against}"], seconds[f"{precision} {name}"]), 3)
        for name, against in COMPARED
    }


def goals(figures: dict[str, Any], *, has_amx: bool) -> list[dict[str, Any]]:
    """The figures that have a goal."""
    ratios = figures["throughput_ratios"]["bfloat16"]
    as_run = min(ratios["base / bare"], ratios["lora / bare"])
    return [
        at_least("capture / bare forward, the same work (bf16, base)", ratios["base_whole / bare"], GOAL, "×"),
        at_least("capture / bare forward, as audits run it (bf16, slower side)", as_run, GOAL, "×"),
        at_least(
            "capture in bf16 / in float32" + ("" if has_amx else " (no AMX here: not judged)"),
            figures["bfloat16_over_float32"]["base"], GOAL_BFLOAT16, "×", applies=has_amx,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure and write the result."""
    arguments = parser(__doc__)
    arguments.add_argument("--adapter", type=Path, default=ORGANISMS / FLAGGED)
    arguments.add_argument("--prompts", type=int, default=48)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    base = base_folder(options.base)
    sequences = sql_prompts(load_tokenizer(base), options.prompts)
    figures = measure(
        base, options.adapter, sequences, options.rounds, budget=options.batch_tokens, device=options.device
    )
    flags = machine()["cpu_flags"]
    figures["goals"] = goals(figures, has_amx=flags["amx_bf16"] and options.device == "cpu")
    path = write_result("extraction", figures)
    for name, rate in figures["tokens_per_second"].items():
        print(f"{name:>20}: {rate} tokens/s")
    print(f"bf16: {figures['throughput_ratios']['bfloat16']}")
    print(f"bf16 / float32: {figures['bfloat16_over_float32']}; written to {path}")


if __name__ == "__main__":
    main()
