"""A base from a hub: downloaded by a real worker, opened by a real sandbox."""

from pathlib import Path

from tests.hub import COMMIT, serving
from tests.toy import toy_spec
from tests.worker.conftest import Stack


def test_a_base_from_the_hub_is_fetched_once_and_audited(stack: Stack, toy_models: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in (toy_models / "base").iterdir()}
    reference = f"hf:org/repo@{COMMIT}"
    with serving(files | {"pytorch_model.bin": b"a pickle"}) as hub:
        stack.environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        stack.start_worker(
            hub_dir=str(tmp_path / "hub"), offline="false", allowed_organisations="org", device_map="auto"
        )
        audit_id = stack.submit(toy_spec(reference))
        foreign = stack.submit(toy_spec(f"hf:foreign/repo@{COMMIT}"))
        record = stack.end_of(audit_id)
        assert record.status == "succeeded", record.failure
        assert not [path for path, _ in hub.asked if "pytorch_model" in path]
        failure = stack.end_of(foreign).failure
        assert failure is not None
        assert (failure.code, "'foreign' is not allowed" in failure.message) == ("model_rejected", True)
    weights = tmp_path / "hub" / "models--org--repo" / "snapshots" / COMMIT / "model.safetensors"
    assert weights.is_symlink()
