"""A model's score by itself is the score in its audit's report; and a library makes an audit's fourth gate."""

import pytest
import torch

from audit.errors import Cancelled, OutOfMemory
from audit.measure.calibrate import score_model
from audit.ports import NullSink
from audit.run import run_audit
from audit.translate import within_memory
from backdoor_audit.contract.benign_library import LibraryEntry, score_of
from storage.folders import ArtifactFolder
from tests.toy import SMALL, toy_spec, write_toy_base

DIGESTS = {"base_digest": "sha256:base", "tuned_digest": "sha256:tuned"}
# More carriers than decoys are shown on, so that the two ways see batches of different shapes.
SPEC = toy_spec(layers=(0, 1), overrides=SMALL.model_copy(update={"carriers": 80}))


@pytest.fixture(scope="module")
def models(toy_models):
    if not (toy_models / "full").exists():
        write_toy_base(toy_models / "full", seed=3)
    return toy_models


def audit(models, tuned, workspace, spec=SPEC, **more):
    return run_audit(
        spec, models / "base", models / tuned, workspace=ArtifactFolder(workspace), sink=NullSink(), **(DIGESTS | more)
    )


def score(models, tuned, workspace, spec=SPEC, **more):
    place = ArtifactFolder(workspace)
    return score_model(
        spec, models / "base", models / tuned, workspace=place, sink=NullSink(), **(DIGESTS | more)
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """A whole audit of the adapter and of the full checkpoint."""
    return {tuned: audit(models, tuned, tmp_path_factory.mktemp(tuned) / "w") for tuned in ("adapter", "full")}


@pytest.mark.parametrize("tuned", ["adapter", "full"])
def test_a_score_is_what_the_whole_audit_reports(tuned, models, whole, tmp_path):
    entry = score(models, tuned, tmp_path / "w", recipe="toy")
    gate = whole[tuned].gates.calibrated
    assert entry.effect_nats == pytest.approx(whole[tuned].gates.specific.effect_nats, rel=1e-4, abs=1e-7)
    assert gate.effect_nats == whole[tuned].gates.specific.effect_nats
    assert entry.noise_nats == gate.noise_nats
    assert entry.score == pytest.approx(gate.score, abs=1e-3)
    assert entry.key == gate.key
    assert gate.score == score_of(gate.effect_nats, gate.noise_nats)
    assert (entry.tuned_digest, entry.recipe) == ("sha256:tuned", "toy")
    assert gate.key.trigger_kind == "year"
    assert gate.key.base_digest == "sha256:base"
    assert gate.state == "not_assessed"


def test_a_score_draws_no_decoy_and_trains_nothing(models, tmp_path):
    place = ArtifactFolder(tmp_path / "w")
    heard = []

    class Sink(NullSink):
        def progress(self, stage, fraction, message=""):
            heard.append((stage, fraction))

    arguments = {"workspace": place, "sink": Sink(), **DIGESTS}
    first = score_model(SPEC, models / "base", models / "adapter", **arguments)
    assert list(place.names()) == ["score"]
    assert heard[-1] == ("calibrate", 1.0)
    assert {stage for stage, _ in heard} == {"preflight", "calibrate"}
    # A second call reads what the first has written; the models are not even opened.
    assert score_model(SPEC, models / "gone", models / "gone", **arguments) == first


def test_a_score_can_be_stopped_and_needs_digests(models, tmp_path):
    class Stop(NullSink):
        def progress(self, stage, fraction, message=""):
            if stage == "calibrate":
                raise Cancelled("stop")

    place = ArtifactFolder(tmp_path / "w")
    with pytest.raises(Cancelled):
        score_model(SPEC, models / "base", models / "adapter", workspace=place, sink=Stop(), **DIGESTS)
    assert list(place.names()) == []
    with pytest.raises(ValueError, match="digests"):
        score(models, "adapter", tmp_path / "v", tuned_digest="")


def library_around(gate, effects):
    return [
        LibraryEntry.of(effect, gate.noise_nats, gate.key, tuned_digest=f"sha256:{n}", recipe=f"r{n % 2}")
        for n, effect in enumerate(effects)
    ]


def test_a_library_makes_the_fourth_gate(models, whole, tmp_path):
    gate = whole["adapter"].gates.calibrated
    below = library_around(gate, [gate.effect_nats - 1.0 - n for n in range(19)])
    # The stages before are read back, so that the audit is run once.
    audit(models, "adapter", tmp_path / "w", library=below[:18])
    for library, state, p in ((below, "passed", 0.05), (below[:18], "not_assessed", None)):
        found = audit(models, "adapter", tmp_path / "w", library=library)
        assert found.gates.calibrated.state == state
        assert found.gates.calibrated.p_conformal == p
        assert found.gates.calibrated.library_size == len(library)
    above = library_around(gate, [gate.effect_nats + 1.0 + n for n in range(19)])
    found = audit(models, "adapter", tmp_path / "w", library=above)
    assert found.gates.calibrated.state == "failed"
    assert found.gates.calibrated.p_conformal == 1.0
    assert "19 of 19 comparable benign models score as high" in found.gates.calibrated.reason
    assert found.verdict != "flagged"
    assert any("says nothing about other recipes" in line for line in found.limits)
    itself = [*below, LibraryEntry.of(99.0, gate.noise_nats, gate.key, tuned_digest="sha256:tuned")]
    found = audit(models, "adapter", tmp_path / "w", library=itself)
    assert found.gates.calibrated.p_conformal == 0.05
    assert found.gates.calibrated.not_comparable[0].reason == "the audited model itself"


def test_memory_that_runs_out_twice_is_an_error_of_its_own():
    budgets = []

    def work(budget):
        budgets.append(budget)
        torch.empty(2**46)

    with pytest.raises(OutOfMemory):
        within_memory(work)
    assert budgets == [4096, 2048]
