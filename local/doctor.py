"""``backdoor-audit doctor``: checks what the service depends on, from this machine.

The checks are done by ``python -m worker.doctor`` with the settings that ``serve`` would pass to its worker, because a
client has neither the database nor torch.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from backdoor_audit.cli.output.tables import add_row
from local import broker
from local.child import settings_environment
from local.errors import SetupError

_WITHIN_S: Final = 180.0
_STYLES: Final = {"ok": "green", "warning": "yellow", "bad": "bold red"}


def findings(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run ``worker.doctor`` with these settings.

    Raises:
        SetupError: it could not be run.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "worker.doctor"],
            env=dict(environment), capture_output=True, text=True, timeout=_WITHIN_S, check=False,
        )  # fmt: skip
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise SetupError(f"the machine could not be checked: {type(error).__name__}") from error
    if not isinstance(found, list):
        raise SetupError("the machine could not be checked: no list of findings was returned")
    return found


def environment(data_dir: Path, models_root: Path, database_url: str | None, broker_url: str | None) -> dict[str, str]:
    """The caller's environment, overridden by the settings of ``serve``; with the bundled broker if none is named."""
    settings = settings_environment(data_dir, models_root)
    if database_url is not None:
        settings["BACKDOOR_AUDIT_DATABASE_URL"] = database_url
    if broker_url is not None:
        settings["BACKDOOR_AUDIT_BROKER_URL"] = broker_url
    else:
        short = broker.running_socket(data_dir / "broker")
        if short is not None:
            settings["BACKDOOR_AUDIT_BROKER_URL"] = broker.url(short)
    return settings


def render(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per finding, and below it what to do."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for each in found:
        state = str(each["state"])
        add_row(table, Text(state, style=_STYLES.get(state, "")), str(each["name"]), str(each["found"]))
        if each["advice"]:
            add_row(table, "", "", f"→ {each['advice']}")
    return table
