"""The command ``backdoor-audit``.

Results go to standard output, everything said about them to standard error. The exit codes are in
``backdoor_audit.cli.exit_codes``.
"""

import importlib.metadata
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from backdoor_audit.cli import keys, libraries
from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit, exit_for
from backdoor_audit.cli.follow import conclude, follow
from backdoor_audit.cli.listing import render_audit, render_models
from backdoor_audit.cli.render import render_report
from backdoor_audit.cli.reuse import submit_once
from backdoor_audit.cli.submit_options import Asked, models_root_from, spec_from
from backdoor_audit.cli.terminal import as_text, out, print_json, save, say
from backdoor_audit.client import DEFAULT_URL
from backdoor_audit.client.errors import ClientError
from backdoor_audit.contract.report import AuditReport
from backdoor_audit.contract.spec import Preset, Recipe, Render
from backdoor_audit.contract.verdicts import FailOn

cli = typer.Typer(
    name="backdoor-audit",
    help="Audit a fine-tuned language model for behaviour that is conditioned on a trigger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=(
        "Exit codes: 0 passed, 1 the verdict met --fail-on, 2 the audit could not be done or is invalid, "
        "3 nothing could be reached, 4 wrong usage, 130 interrupted (the audit goes on)."
    ),
)
models_cli = typer.Typer(help="The models that the service can see.", no_args_is_help=True)
cli.add_typer(models_cli, name="models")
cli.add_typer(keys.cli, name="keys")
cli.add_typer(libraries.cli, name="library")

AuditId = Annotated[str, typer.Argument(metavar="ID", help="The audit's id.")]
Form = Literal["text", "json", "html", "sarif", "junit", "markdown"]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(help="Exit 1 on this verdict: flagged, review (flagged too), or none. The spec's own by default."),
]


def _version(asked: bool) -> None:
    if asked:
        out().print(importlib.metadata.version("backdoor-audit"))
        raise typer.Exit


@cli.callback()
def _connect(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="BACKDOOR_AUDIT_URL", help="Address of the service; unix:///path for a socket.")
    ] = DEFAULT_URL,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.obj = url


@cli.command()
def submit(
    context: typer.Context,
    base: Annotated[
        str | None,
        typer.Option(
            help="Base model: local:PATH, store:NAME, hf:ORG/REPO@COMMIT, mlflow:MODEL/VERSION, or a folder, which is "
            "pushed first."
        ),
    ] = None,
    tuned: Annotated[str | None, typer.Option(help="Fine-tuned checkpoint or LoRA adapter, likewise.")] = None,
    triggered: Annotated[str | None, typer.Option(help="The suspected trigger string.")] = None,
    clean: Annotated[str | None, typer.Option(help="The harmless string that takes its place.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Holds {trigger} and {prompt} once each; \\n is a line break.")
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="Instead of one pair: a file of pairs (.json or .jsonl: triggered, clean).")
    ] = None,
    carriers: Annotated[
        str | None, typer.Option(help="python-sql, instructions, or a file of prompts (.txt, .json, .jsonl).")
    ] = None,
    decoys: Annotated[
        Path | None, typer.Option(help="A file of decoy strings, one a line; drawn when left out.")
    ] = None,
    render: Annotated[Render | None, typer.Option(help="How prompts are put to the model.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="How much is looked at.")] = None,
    layers: Annotated[str | None, typer.Option(help="auto, or numbers: 13,17.")] = None,
    architectures: Annotated[str | None, typer.Option(help="diff_sae, crosscoder, or both with a comma.")] = None,
    recipe: Annotated[Recipe | None, typer.Option(help="How dictionaries are trained.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, bfloat16 or float32.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    deadline: Annotated[int | None, typer.Option(help="Seconds that the audit may take.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Address of a registered webhook to tell of the end.")] = None,
    library: Annotated[str | None, typer.Option(help="A benign library to compare with, by name or id.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, kept with the audit; may be repeated.")] = None,
    spec: Annotated[str | None, typer.Option(help="A file with the whole spec as JSON; - for standard input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdict and exit by it.")] = False,
    fail_on: FailOnOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key with the same spec gives the same audit.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Take the audit that answered this for the same content, if there is one.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="With --wait: stop waiting after so many seconds.")] = None,
    as_json: AsJson = False,
) -> int:
    """File an audit; with --wait, wait for its verdict."""
    if once and idempotency_key is not None:
        raise typer.BadParameter("--once looks for itself", param_hint="--idempotency-key")
    asked = Asked(
        base=base,
        tuned=tuned,
        triggered=triggered,
        clean=clean,
        template=template,
        candidates=candidates,
        carriers=carriers,
        decoys=decoys,
        render=render,
        preset=preset,
        layers=layers,
        architectures=architectures,
        recipe=recipe,
        dtype=dtype,
        seed=seed,
        deadline_s=deadline,
        library=library,
        webhook=webhook,
        labels=tuple(label or ()),
    )
    with connect(context) as client:
        wanted = spec_from(
            asked, spec, fail_on, models_root_from(), lambda folder: str(client.push(folder, say=say).reference)
        )
        audit = submit_once(client, wanted) if once else client.submit(wanted, idempotency_key=idempotency_key)
        if wait:
            say(f"Filed as {audit.id}.")
            return follow(client, audit.id, fail_on, timeout, as_json)
    if as_json:
        print_json(audit.model_dump(mode="json"))
    else:
        typer.echo(audit.id)
    say(f"Filed, not judged yet. For the verdict: backdoor-audit wait {audit.id}")
    return Exit.PASSED


@cli.command()
def wait(
    context: typer.Context,
    audit_id: AuditId,
    fail_on: FailOnOption = None,
    timeout: Annotated[float | None, typer.Option(help="Stop waiting after so many seconds.")] = None,
    as_json: AsJson = False,
) -> int:
    """Wait for an audit's verdict and exit by it."""
    with connect(context) as client:
        return follow(client, audit_id, fail_on, timeout, as_json)


@cli.command()
def status(context: typer.Context, audit_id: AuditId, as_json: AsJson = False) -> int:
    """Show an audit as it stands; a finished one exits as wait would."""
    with connect(context) as client:
        audit = client.get(audit_id)
        if audit.terminal:
            return conclude(client, audit, None, as_json, whole=False)
    if as_json:
        print_json(audit.model_dump(mode="json"))
    else:
        out().print(render_audit(audit))
    say("No verdict yet.")
    return Exit.PASSED


@cli.command()
def report(
    context: typer.Context,
    audit_id: AuditId,
    form: Annotated[
        Form, typer.Option("--format", help="text for a terminal; json, html, sarif, junit, markdown for others.")
    ] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write there instead.")] = None,
) -> int:
    """Show or save a finished audit's report. Exits 0 when the report is there, whatever it says."""
    with connect(context) as client:
        asked_as_is = form not in ("text", "json")
        body = client.report_form(audit_id, form) if asked_as_is else client.report_bytes(audit_id)
    if form != "text":
        if output is None:
            typer.echo(body.decode())
        else:
            save(output, body)
        return Exit.PASSED
    found = render_report(AuditReport.model_validate_json(body, extra="ignore"))
    if output is None:
        out().print(found)
    else:
        save(output, as_text(found).encode())
    return Exit.PASSED


@cli.command()
def cancel(context: typer.Context, audit_id: AuditId, as_json: AsJson = False) -> int:
    """Ask an audit to stop. One that has ended stays as it is."""
    with connect(context) as client:
        audit = client.cancel(audit_id)
    if as_json:
        print_json(audit.model_dump(mode="json"))
    elif audit.status in ("cancelled", "cancelling"):
        typer.echo(f"{audit.id} {audit.status}")
    else:
        typer.echo(f"{audit.id} had already {audit.status}; nothing was changed")
    return Exit.PASSED


@models_cli.command("list")
def models_list(context: typer.Context, as_json: AsJson = False) -> int:
    """List the checkpoints and adapters that the service can see."""
    with connect(context) as client:
        found = client.models()
    if as_json:
        print_json([model.model_dump(mode="json") for model in found])
    else:
        out().print(render_models(found))
    return Exit.PASSED


@models_cli.command("push")
def models_push(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A checkpoint or an adapter, as safetensors.")],
    name: Annotated[
        str | None, typer.Option(help="Its name in the store; made from folder and content when left out.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Upload a checkpoint to the service's store; goes on where an earlier push broke off."""
    with connect(context) as client:
        model = client.push(folder, name, say=say)
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        typer.echo(model.reference)
    return Exit.PASSED


@cli.command()
def serve(
    data_dir: Annotated[
        Path, typer.Option(envvar="BACKDOOR_AUDIT_DATA_DIR", help="Everything that is written goes here.")
    ] = Path("data"),
    models_root: Annotated[
        Path | None,
        typer.Option(envvar="BACKDOOR_AUDIT_MODELS_ROOT", help="What local: names; DATA_DIR/models by default."),
    ] = None,
    host: Annotated[str, typer.Option(envvar="BACKDOOR_AUDIT_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="BACKDOOR_AUDIT_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8321,
    database_url: Annotated[
        str | None, typer.Option(envvar="BACKDOOR_AUDIT_DATABASE_URL", help="Another ledger than SQLite.")
    ] = None,
    broker_url: Annotated[
        str | None, typer.Option(envvar="BACKDOOR_AUDIT_BROKER_URL", help="Another broker than the bundled one.")
    ] = None,
) -> int:
    """Run the whole stack on this machine: broker, API and one worker. Ctrl-C stops all of it."""
    from local.serve import Stack, serve_until_stopped

    stack = Stack(
        data_dir=data_dir.absolute(),
        models_root=(models_root or data_dir / "models").absolute(),
        host=host,
        port=port,
        database_url=database_url,
        broker_url=broker_url,
    )
    console = out()
    serve_until_stopped(stack, lambda line: console.print(line, markup=False, soft_wrap=True))
    return Exit.PASSED


@cli.command()
def doctor(
    data_dir: Annotated[Path, typer.Option(envvar="BACKDOOR_AUDIT_DATA_DIR", help="As for serve.")] = Path("data"),
    models_root: Annotated[Path | None, typer.Option(envvar="BACKDOOR_AUDIT_MODELS_ROOT", help="As for serve.")] = None,
    database_url: Annotated[
        str | None, typer.Option(envvar="BACKDOOR_AUDIT_DATABASE_URL", help="As for serve.")
    ] = None,
    broker_url: Annotated[str | None, typer.Option(envvar="BACKDOOR_AUDIT_BROKER_URL", help="As for serve.")] = None,
    as_json: AsJson = False,
) -> int:
    """Look at database, broker, models, disk, clocks and devices, and say what to do. Exits 2 when something is bad."""
    from local import doctor as examination

    root = (models_root or data_dir / "models").absolute()
    found = examination.findings(examination.environment(data_dir.absolute(), root, database_url, broker_url))
    if as_json:
        print_json(found)
    else:
        out().print(examination.render(found))
    return Exit.NOT_DONE if any(each["state"] == "bad" for each in found) else Exit.PASSED


def _fail(error: ClientError) -> int:
    say(f"Error: {error.message}", *filter(None, (error.hint,)))
    return exit_for(error)


def run(arguments: list[str] | None = None) -> int:
    """Run the command and give its exit code; usage errors, which typer counts as 2, are 4."""
    try:
        code = cli(args=arguments, standalone_mode=False, prog_name="backdoor-audit")
        return int(code or 0)
    except ClientError as error:
        return _fail(error)
    except typer.TyperException as error:
        message = error.format_message()
        say(*((message,) if message.startswith("Usage:") else (f"Error: {message}", "Try: backdoor-audit --help")))
        return Exit.USAGE
    except typer.Abort:
        return Exit.INTERRUPTED
    except SystemExit:  # typer's answer to a closed standard output
        return Exit.NOT_DONE
    except Exception:
        traceback.print_exc()
        return Exit.NOT_DONE


def app() -> None:
    """Entry point of the command."""
    sys.exit(run())
