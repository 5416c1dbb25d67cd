"""``python -m tests.hostile.fuzz --inputs 10000 --load 1200 --out FILE``: checkpoints with seeded changes, under watch.

Each input is a tiny valid checkpoint with one file changed. It must be refused with a code, soon, with little memory
and without straying (``trial.py``), or taken, and so must its view be. What is taken must load through its view behind
``audit.models.pair``, or fail with a code of its own: ``internal`` is a finding. The same seed gives the same inputs.
"""

import argparse
import base64
import collections
import gc
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NoReturn

from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint
from models_store.view import write_view
from tests.hostile.checkpoints import ADAPTER_WEIGHTS, INDEX, WEIGHTS, sharded, write_full, write_lora, write_trained
from tests.hostile.mutations import mutated_bytes, mutated_header, mutated_json, mutated_pattern, mutated_template
from tests.hostile.trial import ACCEPTED, MAX_BYTES, MAX_CPU_S, Answer, Watch, verified
from tests.tiny import write_json

LOAD_SECONDS: Final = 60
LOAD_BYTES: Final = 6 * 2**30
Kind = Literal["full", "sharded", "lora", "trained", "gguf", "bnb", "gptq"]
# Real quantised checkpoints, by kind.
QUANTISED: Final[dict[Kind, str]] = {"bnb": "bnb-nf4-double", "gptq": "gptq-4bit-order"}
REAL: Final = Path(__file__).parents[1] / "audit" / "models" / "quantised"
Mutation = Callable[[Random, bytes], bytes]

PACKED: Final = "model.gguf"
TEMPLATE: Final = "chat_template.jinja"
CHAT: Final = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"

# Kind of checkpoint, file, change of it, and how often.
TARGETS: Final[tuple[tuple[Kind, str, Mutation, int], ...]] = (
    ("full", "config.json", mutated_json, 25),
    ("full", "config.json", mutated_bytes, 4),
    ("full", "generation_config.json", mutated_json, 4),
    ("full", "tokenizer.json", mutated_json, 14),
    ("full", "tokenizer.json", mutated_bytes, 2),
    ("full", "tokenizer_config.json", mutated_json, 8),
    ("full", "special_tokens_map.json", mutated_json, 3),
    ("full", "added_tokens.json", mutated_json, 1),
    ("full", WEIGHTS, mutated_header, 14),
    ("sharded", INDEX, mutated_json, 5),
    ("lora", "adapter_config.json", mutated_json, 16),
    ("lora", "adapter_config.json", mutated_bytes, 2),
    ("lora", "adapter_config.json", mutated_pattern, 8),
    ("lora", ADAPTER_WEIGHTS, mutated_header, 12),
    ("trained", "adapter_config.json", mutated_json, 8),
    ("trained", ADAPTER_WEIGHTS, mutated_header, 8),
    ("gguf", PACKED, mutated_bytes, 14),
    ("full", TEMPLATE, mutated_template, 8),
    ("bnb", "config.json", mutated_json, 5),
    ("bnb", WEIGHTS, mutated_header, 5),
    ("bnb", WEIGHTS, mutated_bytes, 3),
    ("gptq", "config.json", mutated_json, 5),
    ("gptq", WEIGHTS, mutated_header, 5),
    ("gptq", WEIGHTS, mutated_bytes, 3),
)


@dataclass(frozen=True)
class Input:
    """One changed file of one kind of checkpoint."""

    number: int
    kind: Kind
    file: str
    content: bytes

    def finding(self, what: str) -> dict[str, Any]:
        """As JSON, with what is needed to see it again."""
        text = base64.b64encode(self.content[:100_000]).decode()
        return {"number": self.number, "kind": self.kind, "file": self.file, "what": what, "content": text}


def seeds(folder: Path) -> dict[Kind, Path]:
    """The valid checkpoints that inputs are made from."""
    full, shards = write_full(folder / "full"), write_full(folder / "sharded")
    for checkpoint in (full, shards):
        write_json(checkpoint / "special_tokens_map.json", {"unk_token": "<unk>", "additional_special_tokens": ["<x>"]})
        write_json(checkpoint / "added_tokens.json", {"<x>": 2})
    sharded()(shards)
    from tests.packed import write_gguf  # needs libraries that the checks do without

    packed = write_gguf(full, folder / "gguf" / PACKED, template=CHAT).parent
    quantised = {kind: shutil.copytree(REAL / name, folder / kind) for kind, name in QUANTISED.items()}
    for checkpoint in quantised.values():
        (checkpoint / "expected.safetensors").unlink()
        shutil.copyfile(full / "tokenizer.json", checkpoint / "tokenizer.json")
    gc.freeze()  # every trial begins with a collection, which need not look at these libraries
    (full / TEMPLATE).write_text(CHAT, encoding="utf-8")
    return {
        "full": full,
        "sharded": shards,
        "lora": write_lora(folder / "lora"),
        "trained": write_trained(folder / "trained"),
        "gguf": packed,
        **quantised,
    }


def inputs(checkpoints: dict[Kind, Path], count: int, seed: int) -> Iterator[Input]:
    """Seeded changes of the checkpoints' files."""
    valid = {(kind, file): (checkpoints[kind] / file).read_bytes() for kind, file, _, _ in TARGETS}
    weights = [weight for *_, weight in TARGETS]
    for number in range(count):
        random = Random(f"{seed}/{number}")
        kind, file, mutation, _ = random.choices(TARGETS, weights)[0]
        yield Input(number, kind, file, mutation(random, valid[kind, file]))


def put(checkpoints: dict[Kind, Path], tried: Input) -> Callable[[], None]:
    """Put a changed file in its place; call what is returned to put the valid one back."""
    path = checkpoints[tried.kind] / tried.file
    valid = path.read_bytes()
    path.write_bytes(tried.content)
    return lambda: path.write_bytes(valid) and None


def verify_all(folder: Path, count: int, seed: int) -> tuple[dict[str, Any], list[Input]]:
    """Verify every input; return the figures, and the inputs that were taken, changed contents once."""
    checkpoints = seeds(folder)
    watch = Watch().install()
    for checkpoint in checkpoints.values():
        assert verified(watch, checkpoint).outcome == ACCEPTED
    watch.settle()
    outcomes: collections.Counter[str] = collections.Counter()
    reasons: set[str] = set()
    findings: list[dict[str, Any]] = []
    taken: dict[tuple[str, bytes], Input] = {}
    slowest, largest = 0.0, 0
    for tried in inputs(checkpoints, count, seed):
        restore = put(checkpoints, tried)
        answer: Answer = verified(watch, checkpoints[tried.kind])
        restore()
        outcomes[answer.outcome] += 1
        slowest, largest = max(slowest, answer.cpu_s), max(largest, answer.grown_bytes)
        reasons.add("".join(letter for letter in answer.message if letter.isalpha() or letter in ". ")[:60])
        if (wrong := answer.wrong()) is not None:
            findings.append(tried.finding(wrong))
        if answer.outcome == ACCEPTED:
            taken.setdefault((tried.file, tried.content), tried)
    figures = {
        "inputs": count,
        "seed": seed,
        "outcomes": dict(sorted(outcomes.items())),
        "different_refusals": len(reasons - {""}),
        "slowest_cpu_s": round(slowest, 3),
        "limit_cpu_s": MAX_CPU_S,
        "largest_growth_mb": round(largest / 2**20, 1),
        "limit_mb": MAX_BYTES // 2**20,
        "findings": findings,
    }
    return figures, list(taken.values())


def load_all(folder: Path, taken: list[Input], most: int) -> dict[str, Any]:
    """Load what was taken, evenly spread over the files, and say how that went."""
    from audit.models.pair import load_pair
    from worker.sandbox.__main__ import failure_of

    checkpoints = seeds(folder)
    valid = seeds(folder / "valid")
    resource.setrlimit(resource.RLIMIT_DATA, (LOAD_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _out_of_time)
    by_file: dict[str, list[Input]] = {}
    for one in taken:
        by_file.setdefault(one.file, []).append(one)
    chosen = [one for group in zip_longest_flat(list(by_file.values())) for one in group][:most]
    outcomes: collections.Counter[str] = collections.Counter()
    findings: list[dict[str, Any]] = []
    for tried in chosen:
        restore = put(checkpoints, tried)
        signal.alarm(LOAD_SECONDS)
        try:
            is_tuned = tried.kind in ("lora", "trained", "gguf")
            base = valid["full"] if is_tuned else checkpoints[tried.kind]
            tuned = checkpoints[tried.kind] if is_tuned else valid["lora"]
            if tried.kind in QUANTISED:
                tuned = valid["gptq" if tried.kind == "bnb" else "bnb"]
            first, second = verify_checkpoint(base), verify_checkpoint(tuned)
            check_pair(first, second)
            with tempfile.TemporaryDirectory(dir=folder) as views:
                folders = [write_view(one, Path(views) / name).folder for one, name in ((first, "b"), (second, "t"))]
                _run(load_pair(*folders, dtype="float32", device="cpu"))
            outcome = "loaded"
        except Exception as error:
            outcome = failure_of(error).code
            if outcome == "internal":
                findings.append(tried.finding(f"{type(error).__name__}: {str(error)[:300]}"))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            outcome = "panic"
            findings.append(tried.finding(f"panic: {str(error)[:300]}"))
        finally:
            signal.alarm(0)
            restore()
        outcomes[outcome] += 1
    return {
        "taken_and_different": len(taken),
        "loaded": len(chosen),
        "outcomes": dict(sorted(outcomes.items())),
        "findings": findings,
    }


def zip_longest_flat(groups: list[list[Input]]) -> Iterator[list[Input]]:
    """The first of every group, the second of every group, and so on."""
    for place in range(max(map(len, groups), default=0)):
        yield [group[place] for group in groups if place < len(group)]


def _run(pair: Any) -> None:
    import torch

    from audit.prompts.chat_template import base_template
    from audit.prompts.template_rules import template_findings

    template_findings({}, pair.settings_of("base").templates)
    template = base_template(pair.tokenizer)
    if template is not None:
        template.render([{"role": "user", "content": "a 2024"}])
    tokens = pair.tokenizer("a a", add_special_tokens=False)["input_ids"]
    with torch.no_grad(), pair.on("tuned"):
        pair.models["tuned"](input_ids=torch.tensor([[token % 2 for token in tokens] or [0]]))


def _out_of_time(*_: object) -> NoReturn:
    raise RuntimeError(f"it took longer than {LOAD_SECONDS} s")


def main() -> int:
    """Run, write the figures, return 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--load", type=int, default=1_200, help="how many of those that were taken are loaded at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        figures, taken = verify_all(Path(folder) / "verify", chosen.inputs, chosen.seed)
        if chosen.load:
            figures["load"] = load_all(Path(folder) / "load", taken, chosen.load)
    figures["wall_s"] = round(time.monotonic() - started, 1)
    text = json.dumps(figures, indent=1) + "\n"
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201
    return 1 if figures["findings"] or figures.get("load", {}).get("findings") else 0


if __name__ == "__main__":
    sys.exit(main())
