"""``backdoor-audit compare``: two reports side by side."""

import json
from typing import Annotated, Any

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson
from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.terminal import out, print_json, say
from backdoor_audit.cli.short_ids import audit_id as full_id
from backdoor_audit.contract.text.formatting import UNMEASURED, number


def compare(
    context: typer.Context,
    left: Annotated[str, typer.Argument(metavar="LEFT", help="Audit id, or its beginning.")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="Audit id, or its beginning.")],
    everything: Annotated[bool, typer.Option("--all", help="Also show what is the same in both.")] = False,
    as_json: AsJson = False,
) -> int:
    """Compare the reports of two audits. Exits 0 whatever differs."""
    with connect(context) as client:
        compared = client.compare(full_id(client, left), full_id(client, right))
    if as_json:
        print_json(compared.model_dump(mode="json"))
        return Exit.PASSED
    table = new_table("field", compared.left, compared.right)
    for field in compared.fields:
        if field.differs or everything:
            add_row(table, field.name, _shown(field.left), _shown(field.right))
    if table.row_count:
        out().print(table)
    else:
        say("The two reports do not differ in what is compared.")
    if not compared.comparable:
        say("They differ in base, prompts or pair, so their numbers are not directly comparable.")
    return Exit.PASSED


def _shown(value: Any) -> str:
    if value is None:
        return UNMEASURED
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value)
