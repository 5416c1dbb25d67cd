"""Measure the peak memory of a LoRA pair at work, compared with that of a single model.

``python -m benchmarks.memory`` starts two processes, one after the other, that import the same modules and run the
same length-sorted batches in bfloat16:

- ``one``: the base as transformers loads it; every weight read, a bare forward pass over the batches, keeping nothing;
- ``pair``: base and adapter as an audit loads them; four layers captured on both sides, and kept.

The figure is the peak resident set of the whole process: interpreter, libraries, weights, working memory. The kept
activations are subtracted from the pair's. Interpreter and libraries are on both sides and bring the ratio closer to 1,
so a second ratio subtracts the resident set after the imports from both. Both ratios are compared with the goal.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness.goals import at_most
from benchmarks.harness.machine import ROOT, write_result
from benchmarks.harness.setup import FLAGGED, ORGANISMS, base_folder, parser, sql_prompts

GOAL = 1.25
MIB = 2**20
ROLES = ("one", "pair")


def peak_bytes() -> int:
    """Peak resident set of this process.

    On Linux, ``ru_maxrss`` starts at the parent's peak; ``VmHWM`` is this program's own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(role: str, base: Path, adapter: Path, prompts: int, threads: int, budget: int) -> dict[str, int]:
    """The work of one process; returns bytes: after the imports, at the peak, of the kept activations."""
    import torch
    from transformers import AutoModelForCausalLM

    from audit.models.pair import load_pair
    from audit.models.parts import resolve_layers
    from audit.models.runner import Runner
    from audit.models.tokenizers import load_tokenizer
    from benchmarks.extraction import bare_forward

    torch.set_num_threads(threads)
    sequences = sql_prompts(load_tokenizer(base), prompts)
    imported = psutil.Process().memory_info().rss
    activations = 0
    if role == "one":
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True).eval()
        for weights in model.parameters():
            weights.sum()  # weights are mapped from the file; those that are never read would not count
        bare_forward(model, sequences, budget)()
    else:
        pair = load_pair(base, adapter, dtype="bfloat16", device="cpu")
        runner, layers = Runner(pair, budget=budget), resolve_layers("auto", pair.n_blocks)
        captures = [runner.capture(sequences, side, layers) for side in ("base", "tuned")]
        kept = [tensor for capture in captures for tensor in (*capture.hidden.values(), capture.final)]
        activations = sum(tensor.nbytes for tensor in kept if tensor is not None)
    return {"imported": imported, "peak": peak_bytes(), "activations": activations}


def in_a_process(role: str, base: Path, adapter: Path, prompts: int, *, threads: int, budget: int) -> dict[str, int]:
    """The result of ``child`` in a process of its own."""
    arguments = ["--child", role, "--base", base, "--adapter", adapter, "--prompts", prompts]
    arguments += ["--threads", threads, "--batch-tokens", budget]
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(one: dict[str, int], pair: dict[str, int]) -> dict[str, Any]:
    """The pair's memory over the single model's."""
    pair_peak = pair["peak"] - pair["activations"]
    return {
        "bytes": {"one": one, "pair": pair},
        "ratio": round(pair_peak / one["peak"], 3),
        "ratio_without_imports": round((pair_peak - pair["imported"]) / (one["peak"] - one["imported"]), 3),
    }


def main() -> None:
    """Measure and write the result; with ``--child``, run as one of the two processes."""
    arguments = parser(__doc__)
    arguments.add_argument("--adapter", type=Path, default=ORGANISMS / FLAGGED)
    arguments.add_argument("--prompts", type=int, default=128)
    arguments.add_argument("--batch-tokens", type=int, default=4096)
    arguments.add_argument("--child", choices=ROLES, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    base, adapter = base_folder(options.base), options.adapter.absolute()
    if options.child:
        print(json.dumps(child(options.child, base, adapter, options.prompts, options.threads, options.batch_tokens)))
        return
    one, pair = (
        in_a_process(role, base, adapter, options.prompts, threads=options.threads, budget=options.batch_tokens)
        for role in ROLES
    )
    figures = {
        "prompts": options.prompts,
        "dtype": "bfloat16",
        "batch_tokens": options.batch_tokens,
        "counted": "peak resident set of each process; the kept activations are subtracted from the pair's",
        **compare(one, pair),
    }
    figure = "peak memory of a LoRA pair without activations / of one model (bf16)"
    figures["goals"] = [
        at_most(f"{figure}, whole process", figures["ratio"], GOAL, "×"),
        at_most(f"{figure}, libraries not counted", figures["ratio_without_imports"], GOAL, "×"),
    ]
    path = write_result("memory", figures)
    for role, found in figures["bytes"].items():
        print(f"{role:>4}: {', '.join(f'{name} {value / MIB:.0f} MiB' for name, value in found.items())}")
    print(f"pair / one: {figures['ratio']}, imports taken off: {figures['ratio_without_imports']}; written to {path}")


if __name__ == "__main__":
    main()
