"""The lock file holds what constraints.txt pins; the look-up of vulnerabilities says what it could not look up."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["api.lock", "worker.lock", "run.lock", "test.lock"]
LOOK_UP = ROOT / "tools" / "vulnerabilities.py"


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def entries(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {normal(line.partition("==")[0]): line for line in lines}


PINNED = {
    f"{normal(name)}=={version}"
    for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"))
}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_is_the_pinned_one(lock: str) -> None:
    """But for what only other systems need."""
    for name, entry in entries(lock).items():
        if "sys_platform == 'win32'" not in entry and "emscripten" not in entry:
            assert f"{name}=={entry.split()[0].partition('==')[2]}" in PINNED, f"{name}: run `make lock`"


def test_every_pin_is_locked() -> None:
    assert {pin.partition("==")[0] for pin in PINNED} <= set(entries("test.lock")), "run `make lock`"
    for lock in LOCKS[:-1]:
        assert set(entries(lock)) < set(entries("test.lock")), lock


@pytest.mark.parametrize("lock", [*LOCKS, "cuda.lock", "torch-cpu.lock"])
def test_every_locked_package_has_hashes(lock: str) -> None:
    assert entries(lock)
    for entry in entries(lock).values():
        assert re.fullmatch(r"\S+==\S+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+", entry), entry


def test_what_the_cuda_build_of_torch_needs_is_locked_apart() -> None:
    assert {"triton", "nvidia-cublas"} <= set(entries("cuda.lock"))
    assert not set(entries("cuda.lock")) & set(entries("test.lock"))


def looked_up(tmp_path: Path, dependencies: object) -> subprocess.CompletedProcess[str]:
    """Run the look-up with a stand-in for pip-audit, which needs the network, that gives this answer."""
    tool = tmp_path / "pip-audit"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import sys, pathlib\n"
        f"answer = {json.dumps({'dependencies': dependencies}) if dependencies is not None else ''!r}\n"
        "answer or sys.exit('no route to the service')\n"
        "pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text(answer)\n"
    )
    tool.chmod(0o755)
    (tmp_path / "lock").write_text("a==1 \\\n    --hash=sha256:00\nb==2 \\\n    --hash=sha256:00\n")
    return subprocess.run(
        [sys.executable, str(LOOK_UP), str(tool), str(tmp_path / "lock")], capture_output=True, text=True, check=False
    )


def test_a_known_weakness_fails_the_check(tmp_path: Path) -> None:
    weak = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    process = looked_up(tmp_path, [weak, {"name": "b", "version": "2", "vulns": []}])
    assert process.returncode == 1
    assert "a 1: CVE-1, fixed in 2" in process.stdout
    assert "2 of 2 packages looked up, 1 known weaknesses" in process.stdout


@pytest.mark.parametrize("dependencies", [None, [{"name": "a", "skip_reason": "x"}, {"name": "b", "skip_reason": "x"}]])
def test_what_could_not_be_looked_up_is_said(tmp_path: Path, dependencies: object) -> None:
    process = looked_up(tmp_path, dependencies)
    assert process.returncode == 0
    assert "NOT CHECKED" in process.stdout


def test_a_missing_tool_is_said(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(LOOK_UP), str(tmp_path / "none"), str(ROOT / "requirements" / "test.lock")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0
    assert "NOT CHECKED: pip-audit is not installed" in process.stdout
