"""Hostile checkpoints come to a real worker, one after the other; each is refused, and the next audit runs."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.toy import toy_spec

if TYPE_CHECKING:
    from tests.worker.conftest import Stack

ADAPTER = "adapter_model.safetensors"


def spoil(models: Path, toys: Path) -> dict[str, str]:
    """Write one spoilt adapter or base for each way of being refused; return what its message must name."""
    shutil.copytree(toys, models)
    for name in ("not-finite", "linked", "with-code", "cut", "panics"):
        shutil.copytree(models / "adapter", models / name)
    weights = load_file(models / "not-finite" / ADAPTER)
    tensor = sorted(weights)[0]
    weights[tensor] = np.full_like(weights[tensor], np.nan)
    save_file(weights, models / "not-finite" / ADAPTER)
    (models.parent / "secret.json").write_text("{}")
    (models / "linked" / "tokenizer_config.json").symlink_to(models.parent / "secret.json")
    config = models / "with-code" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"megatron_config": {"parent_library": "os"}}))
    with (models / "cut" / ADAPTER).open("r+b") as file:
        file.truncate(5_000)
    # The library that reads it panics, which is no exception of Python's.
    tokenizer = json.loads((models / "base" / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (models / "panics" / "tokenizer.json").write_text(json.dumps(tokenizer))
    return {
        "panics": "tokenizer.json cannot be read",
        "not-finite": "NaN",
        "linked": "is a link out",
        "with-code": "megatron_config",
        "cut": ADAPTER,
    }


def test_hostile_audits_are_refused_and_the_next_one_runs(stack: "Stack", toy_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    wanted = spoil(models, toy_models)
    worker = stack.start_worker(models_root=str(models))
    hostile = {stack.submit(toy_spec(fine_tuned=f"local:{name}")): name for name in wanted}
    good = stack.submit(toy_spec())
    for audit_id, name in hostile.items():
        record = stack.end_of(audit_id)
        assert record.failure is not None, (name, record.status)
        assert record.failure.code == "model_rejected", (name, record.failure)
        assert wanted[name] in record.failure.message
        assert record.failure.hint
        assert record.attempt == 1
    assert stack.end_of(good).status == "succeeded"
    assert worker.process.poll() is None
    printed = [line["line"] for line in worker.logged() if line["event"] == "sandbox.said"]
    said = [json.loads(line) for line in printed if line.startswith("{")]
    started = [line for line in said if line["event"] == "sandbox.confined"]
    assert started
    assert all("no_new_privileges" in line["walls"] for line in started)
    warnings = stack.ledger.report(good).warnings
    missing = [line for line in said if line["event"] == "sandbox.weakened"]
    assert any("walls of the sandbox" in warning for warning in warnings) == bool(missing)
