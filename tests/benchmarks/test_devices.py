"""What is made of the same audits on two devices; the measuring itself needs a GPU."""

import os

import pytest
import torch

from benchmarks import devices


def run(seconds, effect, verdict="flagged"):
    row = {"seconds": seconds, "stages_s": {"extract": seconds / 2, "train": seconds / 4}, "verdict": verdict}
    return {"audits": [row | {"effect_nats": effect}, row | {"effect_nats": -effect}]}


def test_seconds_are_compared_audit_by_audit_and_stage_by_stage():
    found = devices.compared([run(10.0, 5.0), run(40.0, 5.1)])
    assert found["seconds"] == 4
    assert found["by_stage"] == {"extract": 4.0, "train": 4.0}
    assert found["same_verdicts"]
    assert found["effect_nats"] == [[5.0, 5.1], [-5.0, -5.1]]
    assert not devices.compared([run(10.0, 5.0), run(40.0, 5.1, "review")])["same_verdicts"]


def test_the_service_is_told_the_device_and_nobody_afterwards():
    with devices.on_device("cuda"):
        assert os.environ["BACKDOOR_AUDIT_DEVICE"] == "cuda"
    assert "BACKDOOR_AUDIT_DEVICE" not in os.environ


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["devices", "--results", str(tmp_path)])
    assert devices.main() == 1
    assert "nothing was measured" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
