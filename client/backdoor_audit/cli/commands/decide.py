"""``backdoor-audit decide``: whether a model may be used, by whom and why."""

import os
from typing import Annotated

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson, AuditId
from backdoor_audit.cli.output.terminal import print_json, print_line
from backdoor_audit.cli.short_ids import audit_id as full_id
from backdoor_audit.contract.decisions import CHOICE_TITLES, Choice


def decide(
    context: typer.Context,
    audit_id: AuditId,
    decision: Annotated[Choice, typer.Argument(metavar="DECISION", help="accepted, rejected or needs_work.")],
    because: Annotated[str, typer.Option(help="Why.")],
    decided_by: Annotated[str | None, typer.Option("--by", help="Who decided. Default: your user name.")] = None,
    as_json: AsJson = False,
) -> int:
    """Record a decision about a finished audit. It is never changed; a later one takes its place."""
    who = decided_by or os.environ.get("USER") or os.environ.get("USERNAME") or ""
    if not who:
        raise typer.BadParameter("is needed here, where the environment names no user", param_hint="--by")
    with connect(context) as client:
        audit_id = full_id(client, audit_id)
        made = client.decide(audit_id, decision, decided_by=who, because=because)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        print_line(f"{audit_id} {CHOICE_TITLES[decision].lower()} by {made.decided_by}")
    return Exit.PASSED
