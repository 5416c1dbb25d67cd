"""Every hostile checkpoint is refused, or taken without the hostile part: soon, with little memory, nothing opened
outside of it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import StoreError
from models_store.store import ModelsStore
from tests.checkpoints import upload
from tests.hostile.cases import CASES, Case
from tests.hostile.corpus import VALID
from tests.hostile.trial import ACCEPTED, Answer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("hostile")
    process = subprocess.run(
        [sys.executable, "-m", "tests.hostile.corpus", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    said: dict[str, Any] = json.loads(process.stdout)
    return {name: Answer(**answer) for name, answer in said.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.line}: {case.name}")
def test_a_hostile_checkpoint_is_refused_or_taken_without_the_thing(answers: dict[str, Answer], case: Case) -> None:
    answer = answers[f"{case.line}: {case.name}"]
    assert answer.outcome == (ACCEPTED if case.taken else "model_rejected"), answer
    assert re.search(case.names, answer.message), answer.message
    assert answer.wrong() is None
    assert answer.message.isprintable()
    assert len(answer.message) < 500


@pytest.mark.parametrize("name", VALID)
def test_what_they_are_made_from_is_taken(answers: dict[str, Answer], name: str) -> None:
    assert answers[name].outcome == ACCEPTED
    assert answers[name].wrong() is None


def test_there_are_enough_of_every_line() -> None:
    lines = [case.line for case in CASES]
    assert len(CASES) >= 8 + 40
    assert all(lines.count(line) >= 10 for line in set(lines))
    assert len({(case.line, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (f"hf:allowed/repo@{COMMIT}", "model_rejected"),  # offline, and not there
        (f"hf:foreign/repo@{COMMIT}", "model_rejected"),
        ("hf:allowed/repo", "model_rejected"),
        ("hf:allowed/repo@main", "model_rejected"),
        (f"hf:allowed/repo@{COMMIT[:12]}", "model_rejected"),
        (f"hf:../repo@{COMMIT}", "invalid_spec"),
        (f"hf:allowed/../..@{COMMIT}", "invalid_spec"),
        ("local:../outside", "invalid_spec"),
        ("local:/etc", "invalid_spec"),
        ("local:a/../../b", "invalid_spec"),
        ("local:a\x00b", "invalid_spec"),
        ("store:../x", "invalid_spec"),
        ("https://example.org/model", "invalid_spec"),
        ("file:///etc/passwd", "invalid_spec"),
    ],
)
def test_a_hostile_reference_is_refused(tmp_path: Path, reference: str, code: str) -> None:
    store = ModelsStore(
        models_root=tmp_path,
        store_dir=tmp_path / "store",
        hub_dir=tmp_path / "hub",
        offline=True,
        allowed_organisations=frozenset({"allowed"}),
    )
    with pytest.raises(StoreError) as caught:
        store.resolve(reference)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_checkpoint_that_changed_after_its_upload_is_refused(tmp_path: Path) -> None:
    from tests.hostile.checkpoints import write_full

    store = ModelsStore(models_root=tmp_path, store_dir=tmp_path / "store")
    upload(store, "model", write_full(tmp_path / "model"))
    weights = next((tmp_path / "store").rglob("model.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(StoreError, match=r"model\.safetensors: .*digest mismatch") as caught:
        store.resolve("store:model")
    assert caught.value.code == "model_rejected"
