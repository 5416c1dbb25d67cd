"""Describes the machine and commit of a measurement, and writes results."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"

_PACKAGES = ("torch", "numpy", "scipy", "transformers", "peft", "safetensors")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def machine() -> dict[str, Any]:
    """Describe the processor, memory and accelerator of this machine."""
    model, flags = _processor()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cpu_flags": {flag: flag in flags for flag in _FLAGS},
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def command() -> str:
    """Return the command line that started this process, as a user would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"
    return " ".join([start, *sys.argv[1:]])


def describe() -> dict[str, Any]:
    """Return everything that a reader needs to judge or repeat a figure."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "commit": _commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": machine(),
        "versions": versions(),
    }


def write_result(name: str, figures: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``figures`` and what they were measured on to ``folder/name.json``; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **figures, **describe()}, indent=2) + "\n", encoding="utf-8")
    return path


def _processor() -> tuple[str, frozenset[str]]:
    """Read the processor's name and flags; only available on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())


def _commit() -> str | None:
    """Return the commit that was measured, marked if the measured files differ from it in the working tree."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit} (changed)" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
