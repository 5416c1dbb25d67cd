"""``backdoor-audit submit`` and ``search``: submit an audit, and with ``--wait`` wait for its verdict."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.follow import follow
from backdoor_audit.cli.options.shared import WAITING, AsJson, FailOnOption, UnlessAccepted
from backdoor_audit.cli.options.spec_options import with_spec_options
from backdoor_audit.cli.options.submit_options import SubmitOptions, models_root_from, spec_from
from backdoor_audit.cli.outcomes import noting
from backdoor_audit.cli.output.listing import render_estimate
from backdoor_audit.cli.output.terminal import out, print_json, print_line, say
from backdoor_audit.cli.reuse import Filing, describe, submit_once
from backdoor_audit.client.errors import WrongUsage

_FILING: Final = "Filing"


def _submit(
    context: typer.Context,
    *,
    searches: bool,
    spec: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILING,
            help="File with the whole spec, as JSON or YAML; - for standard input. Instead of the options above.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILING, help="Submitting the same spec with the same key again returns the same audit."
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once", rich_help_panel=_FILING, help="Reuse or join an audit of the same spec and checkpoints."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=_FILING,
            help="Submit nothing; show what the audit would cost, and its problems.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", rich_help_panel=WAITING, help="Wait for the verdict, which decides the exit code."),
    ] = False,
    fail_on: FailOnOption = None,
    unless_accepted: UnlessAccepted = False,
    timeout: Annotated[
        float | None,
        typer.Option(rich_help_panel=WAITING, help="With --wait: stop waiting after this many seconds."),
    ] = None,
    as_json: AsJson = False,
    **typed: Any,
) -> int:
    """Submit an audit of a pair, or one that searches for it."""
    if once and idempotency_key is not None:
        raise typer.BadParameter("cannot be combined with --once", param_hint="--idempotency-key")
    if dry_run and wait:
        raise typer.BadParameter("cannot be combined with --wait", param_hint="--dry-run")
    pushed: dict[str, str] = {}
    with connect(context) as client:

        def push(folder: Path) -> str:
            if dry_run:
                raise WrongUsage(
                    f"--dry-run uploads nothing, and the service does not have {folder}",
                    hint=f"backdoor-audit models check {folder}, or models push and name the reference that it prints",
                )
            model = client.push(folder, say=say)
            reference = f"store:{model.name}"
            pushed[reference] = str(model.digest)
            return reference

        requested = spec_from(
            SubmitOptions.of(searches=searches, **typed),
            spec,
            fail_on,
            models_root_from(),
            push,
        )
        requested = noting(requested, pushed)
        if dry_run:
            estimate = client.estimate(requested)
            if as_json:
                print_json(estimate.model_dump(mode="json"))
            else:
                out().print(render_estimate(estimate))
            say("Nothing was submitted.")
            return Exit.PASSED
        if once:
            filing = submit_once(client, requested, pushed)
        else:
            filing = Filing(client.submit(requested, idempotency_key=idempotency_key), found=False)
        audit = filing.audit
        if filing.found:
            say(describe(audit))
        if wait:
            if not filing.found:
                say(f"Submitted as {audit.id}.")
            return follow(client, audit.id, fail_on, timeout, as_json, pushed, unless_accepted=unless_accepted)
    if as_json:
        print_json(audit.model_dump(mode="json"))
    else:
        print_line(audit.id)
    place = "" if audit.queue_position is None else f", place {audit.queue_position}"
    said = "" if filing.found else f"{audit.status.capitalize()}{place}. "
    say(f"{said}For the verdict: backdoor-audit wait {audit.id}")
    return Exit.PASSED


submit = with_spec_options(_submit, searches=False)
search = with_spec_options(_submit, searches=True)
