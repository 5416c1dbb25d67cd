"""``backdoor-audit list``: audits, newest first."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Final

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson
from backdoor_audit.cli.output.listing import render_audits
from backdoor_audit.cli.output.terminal import out, print_json, print_line, say
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.lifecycle import Status
from backdoor_audit.contract.report.verdicts import Verdict

_FILTERS: Final = "Filters"
_AGO: Final = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def list_audits(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option(rich_help_panel=_FILTERS, help="Only audits in this state.")] = None,
    verdict: Annotated[
        Verdict | None, typer.Option(rich_help_panel=_FILTERS, help="Only audits with this verdict.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_FILTERS, help="Only audits with this label: NAME=VALUE, or NAME; repeatable."),
    ] = None,
    tuned: Annotated[
        str | None, typer.Option(rich_help_panel=_FILTERS, help="Only audits of this fine-tuned model.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(rich_help_panel=_FILTERS, help="Only audits with this base model.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILTERS, help="Only audits filed since: 30m, 12h, 7d, 2w, or a date such as 2026-11-30."
        ),
    ] = None,
    before: Annotated[
        str | None, typer.Option(rich_help_panel=_FILTERS, help="Only audits filed before; written like --since.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many of the newest.")] = 20,
    only_ids: Annotated[bool, typer.Option("--ids", "-q", help="Print ids alone, one per line.")] = False,
    as_json: AsJson = False,
) -> int:
    """List audits, newest first."""
    labels = {}
    for text in label or ():
        name, equals, value = text.partition("=")
        labels[name] = value if equals else None
    with connect(context) as client:
        found = list(
            islice(
                client.audits(
                    status=status,
                    verdict=verdict,
                    labels=labels,
                    fine_tuned=tuned,
                    base_model=base,
                    filed_since=_moment(since, "--since"),
                    filed_before=_moment(before, "--before"),
                ),
                limit + 1,
            )
        )
    shown = found[:limit]
    if as_json:
        print_json([audit.model_dump(mode="json") for audit in shown])
    elif only_ids:
        for audit in shown:
            print_line(audit.id)
    else:
        out().print(render_audits(shown, datetime.now(UTC)))
    if len(found) > limit:
        say(f"There are older ones: --limit {10 * limit} shows more.")
    return Exit.PASSED


def _moment(text: str | None, option: str) -> datetime | None:
    """A time that a person wrote: how long ago, or when; without a zone it is one of this machine's."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise WrongUsage(
            f"{option} is neither a time nor how long ago", hint="for example 7d, 2026-11-30 or 2026-11-30T09:00+01:00"
        ) from error
