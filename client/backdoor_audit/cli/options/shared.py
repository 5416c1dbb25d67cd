"""Options that several commands have."""

from typing import Annotated, Final

import typer

from backdoor_audit.contract.report.verdicts import FailOn

WAITING: Final = "Waiting"
"""Heading of the options about a verdict, in ``--help``."""

AuditId = Annotated[str, typer.Argument(metavar="ID", help="Audit id, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
UnlessAccepted = Annotated[
    bool,
    typer.Option(
        "--unless-accepted",
        rich_help_panel=WAITING,
        help="Exit 0 where the verdict meets --fail-on, but the latest decision about this audit is accepted.",
    ),
]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        rich_help_panel=WAITING,
        help="Exit 1 on this verdict: flagged, review (or flagged), or none. Default: the spec's own.",
    ),
]
