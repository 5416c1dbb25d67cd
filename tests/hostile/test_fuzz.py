"""The short form of the fuzzer: 500 seeded inputs, a few of those that are taken loaded."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.hostile.checkpoints import WEIGHTS, write_full
from tests.hostile.fuzz import TARGETS, inputs, seeds

ROOT = Path(__file__).resolve().parents[2]
LONG = Path(__file__).with_name("long_run.json")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
def test_changed_checkpoints_are_refused_with_a_code_or_load(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    process = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", "--inputs", "500", "--load", "20", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert out.exists(), process.stderr[-3000:]
    figures = json.loads(out.read_text())
    assert figures["findings"] == []
    assert figures["load"]["findings"] == []
    assert process.returncode == 0
    assert figures["outcomes"].keys() == {"accepted", "model_rejected"}
    assert min(figures["outcomes"].values()) >= 25, "the changes are all harmless, or all fatal"
    assert figures["different_refusals"] >= 50
    assert figures["load"]["outcomes"].get("loaded", 0) >= 5


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    checkpoints = seeds(tmp_path)
    first, second, other = (list(inputs(checkpoints, 40, seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target[0]} {target[1]} {target[2].__name__}")
def test_a_mutation_changes_the_file(tmp_path: Path, target: tuple) -> None:  # type: ignore[type-arg]
    kind, file, mutation, _ = target
    valid = (seeds(tmp_path)[kind] / file).read_bytes()
    assert any(mutation(Random(number), valid) != valid for number in range(5))


def test_a_crash_would_be_found(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import models_store.verification.verify
from tests.hostile import trial
verify = trial.verify_checkpoint
trial.verified(trial.Watch(), Path(sys.argv[1]))  # imports what is imported late
watch = trial.Watch().install()
def tried(act):
    trial.verify_checkpoint = lambda folder: (act(), verify(folder))[1]
    print(trial.verified(watch, Path(sys.argv[1])).wrong())
tried(lambda: {}["x"])
tried(lambda: open("/etc/passwd").close())
tried(lambda: bytearray(301 * 2**20).extend(b"1"))
import socket
tried(lambda: socket.socket().connect_ex(("127.0.0.1", 9)))
"""
    folder = write_full(tmp_path / "model")
    assert (folder / WEIGHTS).is_file()
    process = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    crashed, opened, grown, connected = process.stdout.splitlines()
    assert crashed.startswith("it crashed: KeyError")
    assert opened == "it strayed: open /etc/passwd"
    assert grown.startswith("it took 3")
    assert "socket.connect" in connected


def test_the_long_form_has_run_and_found_nothing() -> None:
    figures = json.loads(LONG.read_text())
    assert figures["inputs"] >= 10_000
    assert figures["load"]["loaded"] == figures["load"]["taken_and_different"]
    assert figures["findings"] == figures["load"]["findings"] == []
