"""``python -m worker.doctor``: checks everything that the service depends on, and suggests fixes.

It changes nothing; it only writes a file where artifacts go and removes it again. It ends within seconds, whatever is
down, and prints one JSON document: a list of findings.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from common.logs import configure
from worker.doctor import broker, database, devices, disk, models
from worker.doctor.finding import Finding
from worker.errors import SettingsError
from worker.settings import WorkerSettings


def examine(settings: WorkerSettings) -> list[Finding]:
    """Check database, broker, models, registry, artifacts, disk and devices, in this order."""
    checks = (
        database.check,
        broker.check,
        models.check_root,
        models.check_registry,
        disk.check_artifacts,
        disk.check_disk,
        disk.check_private,
        devices.check,
    )
    return [finding for check in checks for finding in check(settings)]


def main(write: Callable[[str], Any] = sys.stdout.write) -> int:
    """Print the findings as JSON; return 0 if nothing is bad, 1 if something is, 2 for unusable settings."""
    configure()
    try:
        settings = WorkerSettings.load()
    except SettingsError as error:
        write(json.dumps([asdict(Finding("settings", "bad", str(error), "fix these environment variables"))]) + "\n")
        return 2
    findings = examine(settings)
    with contextlib.suppress(BrokenPipeError):
        write(json.dumps([asdict(each) for each in findings], indent=2) + "\n")
    return 1 if any(each.state == "bad" for each in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
