"""Options that several commands have."""

from typing import Annotated

import typer

from backdoor_audit.contract.report.verdicts import FailOn

AuditId = Annotated[str, typer.Argument(metavar="ID", help="Audit id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(help="Exit 1 on this verdict: flagged, review (or flagged), or none. Default: the spec's own."),
]
