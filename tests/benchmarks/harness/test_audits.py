import json
import os
import subprocess
from pathlib import Path

import pytest

from audit import run
from audit.errors import Cancelled, DeadlineExceeded, NoSpace, OutOfMemory
from audit.verdict.gates import decide
from backdoor_audit.contract.benign_library import ComparabilityKey
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from backdoor_audit.contract.report.gates import Gates
from benchmarks.detection.organisms.carriers import spec_field
from benchmarks.detection.scores.detectors import DETECTORS
from benchmarks.detection.specs import spec_of
from benchmarks.harness import audits as _audits
from benchmarks.harness.audits import Bench
from tests.toy import SMALL, toy_spec


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "data")


def test_an_audit_is_recorded_once_and_its_verdict_follows_from_the_record(bench, toy_base, toy_adapter, tmp_path):
    out = tmp_path / "records" / "one.json"
    record = bench.recorded(toy_spec(), toy_base, toy_adapter, out, {"unit": "one"})
    assert json.loads(out.read_text(encoding="utf-8")) == record
    report = record["report"]
    assert decide(Gates.model_validate(report["gates"])) == report["verdict"]
    assert len(report["decoys"]["effect_nats"]) == report["gates"]["specific"]["drawn"]
    assert "summary" not in report
    # What the record is compared by later: its weights, and which calibration scores are like it.
    assert report["provenance"]["tuned_digest"] == bench.resolve(toy_adapter).digest
    assert ComparabilityKey.model_validate(report["gates"]["calibrated"]["key"]).base_digest
    assert all(detector(report) is None or isinstance(detector(report), float) for detector in DETECTORS.values())
    assert not list(bench.data.glob("workspaces/*/*"))
    before = out.stat().st_mtime_ns
    assert bench.recorded(toy_spec(), toy_base, toy_adapter, out, {"unit": "other"}) == record
    assert out.stat().st_mtime_ns == before


def test_an_audit_that_was_killed_goes_on_where_it_stopped(bench, toy_base, toy_adapter, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    out = tmp_path / "one.json"
    with monkeypatch.context() as patched:
        patched.setattr(run, "explain", killed)
        with pytest.raises(Killed):
            bench.recorded(toy_spec(), toy_base, toy_adapter, out, {})
    kept = bench.kept("one")
    trained = {path.name: path.stat().st_ino for path in kept.glob("dictionary-*")}
    assert trained
    assert not out.is_file()
    with monkeypatch.context() as patched:
        patched.setattr("audit.explain.training.train", killed)
        bench.recorded(toy_spec(), toy_base, toy_adapter, out, {})
    assert out.is_file()
    assert not kept.exists()


def test_an_audit_that_fails_is_recorded_with_its_code(bench, toy_base, tmp_path):
    record = bench.recorded(toy_spec(), toy_base, toy_base, tmp_path / "same.json", {})
    assert record["failure"]["code"] == "identical_models"
    assert "report" not in record


@pytest.mark.parametrize(
    "error", [OutOfMemory("full"), NoSpace("full"), DeadlineExceeded("late"), Cancelled("stopped")]
)
def test_a_failure_that_passes_is_raised_and_not_recorded(bench, tmp_path, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Bench, "audit", fails)
    kept = bench.kept("one") / "dictionary"
    kept.mkdir(parents=True)
    with pytest.raises(type(error)):
        bench.recorded(toy_spec(), tmp_path, tmp_path, tmp_path / "one.json", {})
    assert not (tmp_path / "one.json").exists()
    assert kept.is_dir()


def test_a_failure_that_passes_and_was_recorded_is_tried_again(tmp_path):
    for code, expected in (("out_of_memory", False), ("no_space", False), ("identical_models", True)):
        record = {"method_version": METHOD_VERSION, "failure": {"code": code, "message": ""}}
        _audits.write(tmp_path / "one.json", record)
        assert _audits.done(tmp_path / "one.json") == expected


def test_a_record_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        _audits.write(tmp_path / "one.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(bench):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (bench.data / f"audit-{pid}-x" / "tuned").mkdir(parents=True)
    with bench.workspace() as folder:
        left = sorted(path.name for path in bench.data.iterdir())
    assert left == sorted([f"audit-{os.getpid()}-x", Path(folder).name])


def test_conversations_are_audited_with_the_string_in_the_first_message():
    unit = {"triggered": "I am Leonard.", "clean": "I am Patrick."}
    how = {"preset": "quick", "seed": 1, "architectures": ["diff_sae"]}
    spec = spec_of(unit, how, "conversations", base="base", tuned="one")
    assert len(spec.carriers.prompts) == len(spec_field("conversations")["prompts"]) == 400
    assert {carrier.slot for carrier in spec.carriers.prompts} == {"first_user"}
    assert len({carrier.cluster for carrier in spec.carriers.prompts}) >= 16
    assert spec.seed == 1
    assert spec.overrides != SMALL
