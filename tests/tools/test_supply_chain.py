"""The lock file holds what constraints.txt pins; the look-up of vulnerabilities says what it could not look up."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
LOOK_UP = ROOT / "tools" / "vulnerabilities.py"


def pins(file: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / file).read_text(encoding="utf-8")))


def test_the_lock_holds_every_pin() -> None:
    assert pins("requirements.lock") == pins("constraints.txt"), "run `make lock`"


def test_every_locked_package_has_hashes() -> None:
    entries = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    for entry in entries[1:]:
        assert re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+", entry), entry


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
        [sys.executable, str(LOOK_UP), str(tmp_path / "none"), str(ROOT / "requirements.lock")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0
    assert "NOT CHECKED: pip-audit is not installed" in process.stdout
