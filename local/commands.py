"""The commands that the server adds to ``backdoor-audit``, found through its entry points: ``serve`` and ``doctor``."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson
from backdoor_audit.cli.output.terminal import out, print_json, say
from backdoor_audit.contract.text.foreign_text import visible_lines
from local import doctor as examination
from local.errors import AddressInUse, DataDirInUse, LocalError
from local.serve import Stack, serve_until_stopped

P = ParamSpec("P")


def _reporting(command: Callable[P, int]) -> Callable[P, int]:
    """Convert this room's errors to a message and an exit code."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        try:
            return command(*arguments, **options)
        except LocalError as error:
            say(f"Error: {error.message}", *filter(None, (error.hint,)))
            return Exit.USAGE if isinstance(error, AddressInUse | DataDirInUse) else Exit.UNREACHABLE

    return run


@_reporting
def serve(
    data_dir: Annotated[
        Path, typer.Option(envvar="BACKDOOR_AUDIT_DATA_DIR", help="Folder for everything that is written.")
    ] = Path("data"),
    models_root: Annotated[
        Path | None,
        typer.Option(
            envvar="BACKDOOR_AUDIT_MODELS_ROOT",
            help="Root of local: references. Default: DATA_DIR/models.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(envvar="BACKDOOR_AUDIT_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="BACKDOOR_AUDIT_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8321,
    database_url: Annotated[
        str | None,
        typer.Option(envvar="BACKDOOR_AUDIT_DATABASE_URL", help="Database URL. Default: SQLite in the data directory."),
    ] = None,
    broker_url: Annotated[
        str | None, typer.Option(envvar="BACKDOOR_AUDIT_BROKER_URL", help="Broker URL. Default: the bundled broker.")
    ] = None,
) -> int:
    """Run the whole stack on this machine: broker, API and one worker. Ctrl-C stops all of it."""
    stack = Stack(
        data_dir=data_dir.absolute(),
        models_root=(models_root or data_dir / "models").absolute(),
        host=host,
        port=port,
        database_url=database_url,
        broker_url=broker_url,
    )
    console = out()
    serve_until_stopped(stack, lambda line: console.print(visible_lines(line), markup=False, soft_wrap=True))
    return Exit.PASSED


@_reporting
def doctor(
    data_dir: Annotated[Path, typer.Option(envvar="BACKDOOR_AUDIT_DATA_DIR", help="As for serve.")] = Path("data"),
    models_root: Annotated[Path | None, typer.Option(envvar="BACKDOOR_AUDIT_MODELS_ROOT", help="As for serve.")] = None,
    database_url: Annotated[
        str | None, typer.Option(envvar="BACKDOOR_AUDIT_DATABASE_URL", help="As for serve.")
    ] = None,
    broker_url: Annotated[str | None, typer.Option(envvar="BACKDOOR_AUDIT_BROKER_URL", help="As for serve.")] = None,
    as_json: AsJson = False,
) -> int:
    """Check database, broker, models, disk, clocks and devices, and say what to do. Exits 2 when a check fails."""
    root = (models_root or data_dir / "models").absolute()
    findings = examination.findings(examination.environment(data_dir.absolute(), root, database_url, broker_url))
    if as_json:
        print_json(findings)
    else:
        out().print(examination.render(findings))
    return Exit.NOT_DONE if any(each["state"] == "bad" for each in findings) else Exit.PASSED
