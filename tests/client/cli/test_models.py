"""``backdoor-audit models check``, which asks no service."""

import importlib.metadata
import json
import shutil

import pytest

from backdoor_audit.cli import checking


@pytest.fixture
def audit(monkeypatch, run_command):
    """Run the command where no service answers."""
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", "http://127.0.0.1:9")
    return run_command


@pytest.fixture
def local_check(monkeypatch):
    """The server's check, as its entry point gives it to the command."""
    entry_point = importlib.metadata.EntryPoint("checkpoint", "models_store.check:check_folder", checking.ENTRY_POINTS)
    found = lambda *, group, name: [entry_point] * ((group, name) == (checking.ENTRY_POINTS, "checkpoint"))  # noqa: E731
    monkeypatch.setattr(checking.importlib.metadata, "entry_points", found)


def test_models_check_says_what_an_audit_would_do(audit, local_check, toy_adapter, toy_base, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(toy_adapter, folder)
    (folder / "optimizer.pt").write_bytes(b"pickle")
    code, text, _ = audit("models", "check", str(folder), "--base", str(toy_base), "--fix", str(tmp_path / "mended"))
    assert code == 0
    assert "accepted" in text
    assert "ignored: optimizer.pt" in text
    assert not (tmp_path / "mended" / "optimizer.pt").exists()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    code, text, _ = audit("models", "check", str(folder), "--json")
    assert code == 1
    [problem] = json.loads(text)["problems"]
    assert (problem["file"], problem["code"]) == ("adapter_model.bin", "model_rejected")
    assert audit("models", "check", str(tmp_path / "nothing"))[0] == 4
    assert audit("models", "check", str(toy_base), "--fix", str(folder))[0] == 4


def test_a_folder_that_would_be_refused_is_not_pushed(audit, local_check, toy_adapter, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(toy_adapter, folder)
    (folder / "model.safetensors").write_bytes(b"")
    code, _, said = audit("models", "push", str(folder))
    assert code == 4
    assert "keep the adapter in a folder of its own" in said


def test_models_check_without_the_server_says_what_to_install(audit, monkeypatch, tmp_path):
    monkeypatch.setattr(checking.importlib.metadata, "entry_points", lambda **_: [])
    code, _, said = audit("models", "check", str(tmp_path))
    assert code == 4
    assert "backdoor-audit-server" in said
