"""Writes the lock files in ``requirements/`` with uv: ``python tools/lock.py UV``.

``run.lock`` holds what the demo and ``serve`` need, ``test.lock`` all extras and the test tools, ``api.lock`` and
``worker.lock`` what is in the images, each package with the hashes of its files for all systems and Pythons. What torch
needs for CUDA on Linux is in ``cuda.lock``: who has a CPU build of torch does not need it. Versions come from
``constraints.txt``.

PyPI has no CPU build of torch for Linux. The hashes of such builds in the folders of ``PIP_FIND_LINKS`` are added to
those of PyPI; uv keeps the ones that a lock has already for as long as the version stays. ``--upgrade`` forgets them.
With hashes to check, pip prefers PyPI's build to one in a folder, so ``torch-cpu.lock`` names the CPU build alone; the
Makefile tries it first.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "requirements"
LOCKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "api.lock": (("objects", "mlflow"), ("build.in",)),
    "worker.lock": (("worker", "objects", "mlflow"), ("build.in",)),
    "run.lock": (("examples",), ("unlisted.in",)),
    "test.lock": (("test",), ("unlisted.in", "unlisted-test.in")),
}
"""Extras, and what is installed beside them, of each lock file."""
CUDA: Final = ("cuda-", "nvidia-", "triton==")
HEAD: Final = "# Written by `make lock`; do not edit.\n"
PYTHON: Final = "3.11.5"

_ENTRY: Final = re.compile(r"^\S+==.*(?:\n[ \t]+.*)*\n", re.MULTILINE)


def main(uv: Path, *options: str) -> int:
    """Write all lock files."""
    cuda: dict[str, str] = {}
    for name, (extras, inputs) in LOCKS.items():
        entries = compiled(uv, FOLDER / name, extras, inputs, options)
        cuda |= {pin: entry for pin, entry in entries.items() if pin.startswith(CUDA)}
        own = [entry for pin, entry in entries.items() if pin not in cuda]
        (FOLDER / name).write_text(HEAD + "".join(own), encoding="utf-8")
    (FOLDER / "cuda.lock").write_text(HEAD + "".join(cuda.values()), encoding="utf-8")
    torch = next(entry for pin, entry in entries.items() if pin.startswith("torch=="))
    (FOLDER / "torch-cpu.lock").write_text(HEAD + re.sub(r"^\S+", r"\g<0>+cpu", torch), encoding="utf-8")
    return 0


def compiled(
    uv: Path, lock: Path, extras: tuple[str, ...], inputs: tuple[str, ...], options: tuple[str, ...]
) -> dict[str, str]:
    """The entries of a lock file by their pins, as uv writes them, with the hashes of CPU builds near by.

    Raises:
        CalledProcessError: uv found no solution; it has said why.
    """
    command = [str(uv), "pip", "compile", "pyproject.toml", *(f"requirements/{name}" for name in inputs)]
    command += [*(option for extra in extras for option in ("--extra", extra)), "--constraint", "constraints.txt"]
    command += ["--universal", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    command += ["--python-version", PYTHON, "--no-emit-package", "backdoor-audit", "--output-file", str(lock)]
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    entries = _ENTRY.findall(lock.read_text(encoding="utf-8"))
    return {(pin := entry.split()[0]): _with_local_builds(pin, entry) for entry in entries}


def _with_local_builds(pin: str, entry: str) -> str:
    """Add the hashes of builds with a local version, such as ``+cpu``, in the folders of ``PIP_FIND_LINKS``."""
    name, _, version = pin.partition("==")
    folders = [Path(place) for place in os.environ.get("PIP_FIND_LINKS", "").split() if "://" not in place]
    for file in sorted(file for folder in folders for file in folder.glob(f"{name}-{version}+cpu-*.whl")):
        with file.open("rb") as opened:
            digest = f"--hash=sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
        if digest not in entry:
            entry = entry.rstrip() + f" \\\n    {digest}\n"
    return entry


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
