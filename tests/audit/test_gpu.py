"""A whole audit on a GPU, beside the same one on the CPU."""

import pytest
import torch

from audit.ports import NullSink
from audit.run import run_audit
from storage.folders import ArtifactFolder
from tests.toy import toy_spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def reports(toy_models, tmp_path_factory):
    def audited(device):
        spec = toy_spec(dtype="float32", architectures=["diff_sae", "crosscoder"])
        workspace = ArtifactFolder(tmp_path_factory.mktemp(device) / "w")
        return run_audit(
            spec, toy_models / "base", toy_models / "adapter", workspace=workspace, sink=NullSink(), device=device
        )

    return {device: audited(device) for device in ("cpu", "cuda")}


def test_a_gpu_gives_the_same_verdict_and_says_what_it_was(reports):
    cpu, gpu = reports["cpu"], reports["cuda"]
    assert gpu.provenance.device == torch.cuda.get_device_name()
    assert gpu.verdict == cpu.verdict
    assert [row.layer for row in gpu.layers] == [row.layer for row in cpu.layers]


def test_a_gpu_measures_the_same(reports):
    cpu, gpu = reports["cpu"], reports["cuda"]
    for name in ("output_kl", "threshold"):
        ours, theirs = (getattr(report.gates.behaviour, name) for report in (gpu, cpu))
        assert ours == pytest.approx(theirs, rel=0.02, abs=1e-4)
    assert gpu.gates.specific.effect_nats == pytest.approx(cpu.gates.specific.effect_nats, rel=0.02, abs=1e-3)
    strings = [decoy.string for decoy in gpu.decoys]
    assert strings == [decoy.string for decoy in cpu.decoys]
    for ours, theirs in zip(gpu.decoys, cpu.decoys, strict=True):
        assert ours.effect_nats == pytest.approx(theirs.effect_nats, rel=0.05, abs=2e-3)
