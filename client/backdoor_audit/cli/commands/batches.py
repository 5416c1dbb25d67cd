"""``backdoor-audit batch``: many audits at once."""

import time
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import RenderableType

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.help import Commands
from backdoor_audit.cli.options.shared import WAITING, AsJson
from backdoor_audit.cli.options.spec_file import read_document
from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.terminal import out, print_form, print_json, print_line, save, say
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.responses import Batch, BatchAudit

cli = Commands(no_args_is_help=True)

_BatchId = Annotated[str, typer.Argument(metavar="ID", help="Batch id.")]
_POLL_S: Final = 5.0


@cli.command("submit")
def submit(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSON or YAML; - for standard input. spec has the fields that all audits share, audits a list with "
            "the fine_tuned, base_model or trigger of each.",
        ),
    ],
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting the same batch with the same key again returns the same audits.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", rich_help_panel=WAITING, help="Wait until all have ended; exit as the worst does.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(rich_help_panel=WAITING, help="With --wait: stop waiting after this many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Submit many audits, all or none; prints the batch's id."""
    wanted = read_document(file, "FILE")
    with connect(context) as client:
        batch = client.submit_batch(wanted, idempotency_key=idempotency_key)
        if wait:
            say(f"Submitted as {batch.id}.")
            return _follow(client, batch, timeout, as_json=as_json)
    if as_json:
        print_json(batch.model_dump(mode="json"))
    else:
        print_line(batch.id)
    say(f"{len(batch.audits)} audits. For their results: backdoor-audit batch show {batch.id}")
    return Exit.PASSED


@cli.command("show")
def show(context: typer.Context, batch_id: _BatchId, as_json: AsJson = False) -> int:
    """Show the audits of a batch, worst first; exits as the worst does once all have ended."""
    with connect(context) as client:
        batch = client.batch(batch_id)
    return _conclude(batch, as_json=as_json)


@cli.command("report")
def report(
    context: typer.Context,
    batch_id: _BatchId,
    form: Annotated[
        Literal["json", "html", "markdown", "junit"], typer.Option("--format", help="Output format.")
    ] = "markdown",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> int:
    """Show or save a batch's report. Exits 0 whatever it says."""
    with connect(context) as client:
        body = client.batch_report(batch_id, form)
    if output is None:
        print_form(body, form)
    else:
        save(output, body)
    return Exit.PASSED


@cli.command("cancel")
def cancel(context: typer.Context, batch_id: _BatchId, as_json: AsJson = False) -> int:
    """Cancel every audit of a batch that has not ended."""
    with connect(context) as client:
        batch = client.cancel_batch(batch_id)
    if as_json:
        print_json(batch.model_dump(mode="json"))
    else:
        out().print(_table(batch))
    return Exit.PASSED


def _follow(client: AuditClient, batch: Batch, timeout_s: float | None, *, as_json: bool) -> int:
    started, said = time.monotonic(), ""
    while not batch.ended:
        counts = ", ".join(f"{count} {result.replace('_', ' ')}" for result, count in batch.results.items())
        if counts != said:
            say(counts)
            said = counts
        if timeout_s is not None and time.monotonic() - started + _POLL_S > timeout_s:
            say(f"Not all have ended within {timeout_s:g} seconds; they continue: backdoor-audit batch show {batch.id}")
            return Exit.NOT_DONE
        time.sleep(_POLL_S)
        batch = client.batch(batch.id)
    return _conclude(batch, as_json=as_json)


def _conclude(batch: Batch, *, as_json: bool) -> int:
    codes = [_code(audit) for audit in batch.audits]
    code = Exit.PASSED
    if batch.ended:
        code = next((each for each in (Exit.VERDICT_MET, Exit.NOT_DONE) if each in codes), Exit.PASSED)
    if as_json:
        print_json(batch.model_dump(mode="json") | {"exit_code": int(code)})
    else:
        out().print(_table(batch))
    if not batch.ended:
        say("Not all have ended.")
    return code


def _code(audit: BatchAudit) -> Exit:
    """0 only for verdicts that are known and do not meet the spec's ``fail_on``."""
    if audit.fails:
        return Exit.VERDICT_MET
    return Exit.PASSED if audit.verdict in ("flagged", "review", "no_evidence") else Exit.NOT_DONE


def _table(batch: Batch) -> RenderableType:
    table = new_table("result", "fine-tuned model", "base", "remark", "id")
    table.columns[-1].no_wrap = True
    for audit in batch.audits:
        remark = audit.summary
        if audit.decision is not None:
            remark = f"{audit.decision.decision.replace('_', ' ')} by {audit.decision.decided_by}"
        elif audit.failure is not None:
            remark = f"{audit.failure.code}: {audit.failure.message}"
        result = (audit.verdict or audit.status).replace("_", " ")
        add_row(table, result, audit.fine_tuned, audit.base_model, remark, audit.id)
    return table
