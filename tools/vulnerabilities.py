"""``python tools/vulnerabilities.py PIP_AUDIT LOCK``: looks every locked package up among the known vulnerabilities.

It needs the network. Where the service does not answer, or ``pip-audit`` could not be installed, it says that nothing
was checked and ends with 0: a check that cannot run is not a failed one, and must not look like a passed one either.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_WITHIN_S = 600


def main(pip_audit: Path, lock: Path) -> int:
    """Print what was found; return 1 for a known vulnerability."""
    pins = dict(_PINNED.findall(lock.read_text(encoding="utf-8")))
    if not pip_audit.exists():
        return _skipped("pip-audit is not installed (make tools)")
    with tempfile.TemporaryDirectory() as folder:
        wanted, answer = Path(folder) / "pins.txt", Path(folder) / "answer.json"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), encoding="utf-8")
        command = [str(pip_audit), "--requirement", str(wanted), "--no-deps", "--disable-pip", "--format", "json"]
        command += ["--output", str(answer), "--progress-spinner", "off"]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            return _skipped(f"no answer within {_WITHIN_S} s")
        if not answer.exists():
            return _skipped((process.stderr.strip().splitlines() or ["pip-audit gave no answer"])[-1][:300])
        packages = json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
    known = [(package, weakness) for package in packages for weakness in package.get("vulns", ())]
    for package, weakness in known:
        fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
        sys.stdout.write(f"{package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}\n")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    checked = len(packages) - len(unknown)
    sys.stdout.write(f"vulnerabilities: {checked} of {len(pins)} packages looked up, {len(known)} known weaknesses\n")
    if unknown:
        named = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        sys.stdout.write(f"vulnerabilities: NOT CHECKED, for the service does not know them: {named}\n")
    return 1 if known else 0


def _skipped(reason: str) -> int:
    sys.stdout.write(f"vulnerabilities: NOT CHECKED: {reason}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
