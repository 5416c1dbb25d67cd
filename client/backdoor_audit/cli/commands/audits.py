"""``backdoor-audit wait``, ``status``, ``report`` and ``cancel``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.follow import conclude, follow
from backdoor_audit.cli.options.shared import WAITING, AsJson, AuditId, FailOnOption, UnlessAccepted
from backdoor_audit.cli.options.submit_options import with_line_ends
from backdoor_audit.cli.output.listing import render_audit
from backdoor_audit.cli.output.render import render_brief, render_report
from backdoor_audit.cli.output.terminal import as_text, out, print_form, print_json, print_line, save, say
from backdoor_audit.cli.short_ids import audit_id as full_id
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import Dtype
from backdoor_audit.contract.spec.presets import Preset
from backdoor_audit.contract.spec.search import Budget


def _changed(text: str) -> Any:
    return typer.Option(rich_help_panel="Changes to the spec", help=f"{text} Default: as before.")


Form = Literal["text", "json", "html", "sarif", "junit", "markdown"]


def wait(
    context: typer.Context,
    audit_id: AuditId,
    fail_on: FailOnOption = None,
    unless_accepted: UnlessAccepted = False,
    timeout: Annotated[
        float | None, typer.Option(rich_help_panel=WAITING, help="Stop waiting after this many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Wait for an audit's verdict; the exit code depends on it."""
    with connect(context) as client:
        return follow(client, full_id(client, audit_id), fail_on, timeout, as_json, unless_accepted=unless_accepted)


def status(context: typer.Context, audit_id: AuditId, as_json: AsJson = False) -> int:
    """Show an audit's current state; exits like wait once it has ended."""
    with connect(context) as client:
        audit = client.get(full_id(client, audit_id))
        if audit.terminal:
            return conclude(client, audit, None, as_json, whole=False)
    if as_json:
        print_json(audit.model_dump(mode="json"))
    else:
        out().print(render_audit(audit))
    say("No verdict yet.")
    return Exit.PASSED


def report(
    context: typer.Context,
    audit_id: AuditId,
    form: Annotated[Form, typer.Option("--format", help="Output format.")] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="As text, only the verdict, its reasons and what to look at.")
    ] = False,
) -> int:
    """Show or save a finished audit's report. Exits 0 for any verdict."""
    if brief and form != "text":
        raise typer.BadParameter("is for text alone", param_hint="--brief")
    with connect(context) as client:
        audit_id = full_id(client, audit_id)
        other_form = form not in ("text", "json")
        body = client.report_form(audit_id, form) if other_form else client.report_bytes(audit_id)
    if form != "text":
        if output is None:
            print_form(body, form)
        else:
            save(output, body)
        return Exit.PASSED
    read = AuditReport.model_validate_json(body, extra="ignore")
    shown = render_brief(read) if brief else render_report(read)
    if output is None:
        out().print(shown)
    else:
        save(output, as_text(shown).encode())
    return Exit.PASSED


def retry(
    context: typer.Context,
    audit_id: AuditId,
    preset: Annotated[Preset | None, _changed("Audit size: quick, standard or thorough.")] = None,
    seed: Annotated[int | None, _changed("Seed of carriers, decoys and dictionaries.")] = None,
    dtype: Annotated[Dtype | None, _changed("Precision: bfloat16 or float32.")] = None,
    library: Annotated[str | None, _changed("Benign library to compare with, by name or id.")] = None,
    silent_decoys: Annotated[int | None, _changed("Number of silent decoys to draw.")] = None,
    max_decoys: Annotated[int | None, _changed("Maximum number of decoys drawn.")] = None,
    triggered: Annotated[str | None, _changed("The suspected string.")] = None,
    clean: Annotated[str | None, _changed("The clean string.")] = None,
    template: Annotated[
        str | None, _changed("Where the string stands: holds {trigger} and {prompt} once each.")
    ] = None,
    search: Annotated[
        Budget | None, _changed("Search for strings with this budget, in place of a pair: quick, standard, thorough.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """File the spec of an audit that has ended once more, with the models as they are now, and with changes."""
    changes: dict[str, Any] = {"preset": preset, "seed": seed, "dtype": dtype, "library": library}
    changes["overrides"] = _given(silent_decoys=silent_decoys, max_decoys=max_decoys) or None
    placed = None if template is None else with_line_ends(template)
    changes["trigger"] = _given(triggered=triggered, clean=clean, template=placed) or None
    changes["search"] = None if search is None else {"budget": search}
    with connect(context) as client:
        audit = client.retry(full_id(client, audit_id), _given(**changes))
    if as_json:
        print_json(audit.model_dump(mode="json"))
    else:
        print_line(audit.id)
    say(f"For the verdict: backdoor-audit wait {audit.id}")
    return Exit.PASSED


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def cancel(context: typer.Context, audit_id: AuditId, as_json: AsJson = False) -> int:
    """Cancel an audit. One that has already ended is not changed."""
    with connect(context) as client:
        audit = client.cancel(full_id(client, audit_id))
    if as_json:
        print_json(audit.model_dump(mode="json"))
    elif audit.status in ("cancelled", "cancelling"):
        print_line(f"{audit.id} {audit.status}")
    else:
        print_line(f"{audit.id} had already {audit.status}; nothing changed")
    return Exit.PASSED
