"""The device: what torch sees where an audit would run."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from worker.doctor.finding import Finding
from worker.sandbox.process import sandbox_environment
from worker.settings import WorkerSettings

_DEVICES_WITHIN_S: Final = 120.0


def check(settings: WorkerSettings) -> Iterator[Finding]:
    """Check what torch sees where audits run: inside the sandbox."""
    device = settings.device
    seen = probe(device)
    if seen is None:
        yield Finding("device", "bad", "torch cannot be loaded", "reinstall the packages of the worker")
        return
    wanted = int(device.partition(":")[2] or 0) if device.startswith("cuda") else 0
    if device != "cpu" and wanted >= len(seen["cuda"]):
        outside = probe(device, "--open") if seen["built_for_gpus"] else None
        if outside is not None and wanted < len(outside["cuda"]):
            yield Finding(
                "device", "bad", f"torch {seen['torch']} sees {outside['cuda'][wanted]}, but not inside the "
                "sandbox, where audits run",
                "please report this with the driver's version: the sandbox refuses something that the driver needs. "
                "Until then, set BACKDOOR_AUDIT_DEVICE=cpu",
            )  # fmt: skip
            return
        if device.startswith("cuda"):
            yield Finding(
                "device", "bad", f"DEVICE is {device}, but torch {seen['torch']} sees {len(seen['cuda'])} GPUs",
                "install a CUDA build of torch and the driver, or set BACKDOOR_AUDIT_DEVICE=cpu",
            )  # fmt: skip
            return
    if seen["cuda"] and device != "cpu":
        yield Finding("device", "ok", f"torch {seen['torch']}, {', '.join(seen['cuda'])}")
    elif seen["bf16"]:
        yield Finding("device", "ok", f"torch {seen['torch']}, CPU with bfloat16, {seen['threads']} threads")
    else:
        yield Finding(
            "device", "warning", f"torch {seen['torch']}, CPU without bfloat16, {seen['threads']} threads",
            "audits run in float32, which takes several times as long",
        )  # fmt: skip


def probe(device: str, *options: str) -> dict[str, Any] | None:
    """Return what torch sees inside an audit's sandbox, or outside of it (``--open``); None if it cannot be loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "worker.sandbox.probe_devices", device, *options],
                capture_output=True, text=True,
                timeout=_DEVICES_WITHIN_S, check=True, cwd=scratch,
                env=sandbox_environment(Path(scratch), os.environ),
            )  # fmt: skip
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError):
            return None
    return found
