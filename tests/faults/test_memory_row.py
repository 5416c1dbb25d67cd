"""Row 15 of the fault matrix: the allocator refuses."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.run import HALVED
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import CarrierPrompts
from tests.faults.stack import ROOT, System
from tests.toy import SMALL, toy_spec, write_toy_adapter, write_toy_base

pytestmark = pytest.mark.timeout(900)

D_MODEL = 16
ENOUGH_FOR_HALF = 8_192
"""Inner width of a model for which half a batch fits into the limit and a whole one does not."""
NEVER_ENOUGH = 131_072
"""Of one for which not even half a batch fits."""
LONG = 1_150
"""Tokens of a long prompt, or a few more: three of them are a batch of 4,096 tokens, one is half a batch."""
FLOAT_BYTES = 4

_HEAP_AFTER_LOADING = """
import sys, torch
from pathlib import Path
import audit.run
from audit.models.pair import load_pair
pair = load_pair(Path(sys.argv[1]), Path(sys.argv[2]), dtype="float32", device="cpu")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData")))
"""


def _inner_bytes(width: int, prompts: int) -> int:
    """One of a block's inner activations for so many long prompts. Three of them are alive at once."""
    return prompts * LONG * width * FLOAT_BYTES


@pytest.fixture(scope="module")
def wide_models(toy_models: Path) -> Iterator[Path]:
    """The system's models root, with pairs whose activations inside a block are large and whose weights are not."""
    widths = {"wide": ENOUGH_FOR_HALF, "wider": NEVER_ENOUGH}
    for name, width in widths.items():
        base = write_toy_base(toy_models / name, layers=1, d_model=D_MODEL, inner=width, positions=2_048)
        write_toy_adapter(toy_models / f"{name}-adapter", base)
    yield toy_models
    for name in widths:
        shutil.rmtree(toy_models / name)
        shutil.rmtree(toy_models / f"{name}-adapter")


def _heap_after_loading(models: Path, name: str) -> int:
    """Bytes that count towards the limit once the libraries and the pair are in memory."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAP_AFTER_LOADING, str(models / name), str(models / f"{name}-adapter")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) * 1024


def _spec(name: str) -> AuditSpec:
    """A few long prompts among short ones; the last layer, so that no block is differentiated."""
    prompts = [
        {"prompt": f"Task {n:03}: " + "add " * (LONG if n % 6 == 0 else 1), "cluster": f"c{n % 20}"} for n in range(84)
    ]
    return toy_spec(
        f"local:{name}",
        f"local:{name}-adapter",
        carriers=CarrierPrompts.model_validate({"prompts": prompts}),
        overrides=SMALL.model_copy(update={"continuation_tokens": 0, "silent_decoys": 1, "max_decoys": 1}),
    )


def test_row_15_out_of_memory(system: System, wide_models: Path) -> None:
    # A whole batch needs three activations of three prompts; half of one needs three of one prompt, which is a third,
    # and the allocator may still hold one of the first try.
    limit = _heap_after_loading(wide_models, "wide") + _inner_bytes(ENOUGH_FOR_HALF, 3) * 27 // 10
    assert _inner_bytes(NEVER_ENOUGH, 1) > limit // 2
    worker = system.start_worker(sandbox_memory_gb=f"{limit / 2**30:.4f}")
    hopeless, tight = system.post(_spec("wider")), system.post(_spec("wide"))
    record = system.end_of(hopeless)
    assert record.failure is not None, record.status
    assert record.failure.code == "out_of_memory"
    assert "half the batch" in record.failure.message, "the second try failed, too"
    assert record.attempt == 1
    system.one_end(hopeless)
    report = system.succeeded(tight)
    assert HALVED in report.warnings, "it took one retry"
    assert system.ledger.get(tight).attempt == 1
    assert worker.process.poll() is None
