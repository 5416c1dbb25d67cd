"""The command ``backdoor-audit``.

Results go to standard output, messages about them to standard error. Subcommands are imported when they are
run, so nothing imported here may need pydantic or httpx.
"""

import importlib.metadata
import io
import sys
import traceback
from typing import Annotated, Any, Final

import typer

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.lazy import LazyGroup, Subcommand
from backdoor_audit.client import DEFAULT_URL
from backdoor_audit.contract.text.foreign_text import visible_lines

_COMMANDS: Final = "backdoor_audit.cli.commands"


class Root(LazyGroup):
    """Every subcommand, in the order of ``--help``."""

    subcommands = (
        Subcommand("submit", "Submit an audit; with --wait, wait for its verdict.", f"{_COMMANDS}.submit:submit"),
        Subcommand("search", "Search for a trigger that nobody knows, and audit it.", f"{_COMMANDS}.submit:search"),
        Subcommand("wait", "Wait for an audit's verdict, which decides the exit code.", f"{_COMMANDS}.audits:wait"),
        Subcommand(
            "status", "Show an audit's current state; exits like wait once it has ended.", f"{_COMMANDS}.audits:status"
        ),
        Subcommand(
            "report", "Show or save a finished audit's report; exits 0 for any verdict.", f"{_COMMANDS}.audits:report"
        ),
        Subcommand(
            "list",
            "List audits, newest first, by state, verdict, label, model or time.",
            f"{_COMMANDS}.listing:list_audits",
        ),
        Subcommand("decide", "Record whether a model may be used, by whom and why.", f"{_COMMANDS}.decide:decide"),
        Subcommand("attest", "Save a signed statement about an audit's result.", f"{_COMMANDS}.attest:attest"),
        Subcommand(
            "verify", "Check offline whether a folder is what an attestation is about.", f"{_COMMANDS}.attest:verify"
        ),
        Subcommand("bom", "Save a bill of materials of an audited model (CycloneDX).", f"{_COMMANDS}.attest:bom"),
        Subcommand("compare", "Compare the reports of two audits.", f"{_COMMANDS}.compare:compare"),
        Subcommand("retry", "File the spec of an audit that has ended once more.", f"{_COMMANDS}.audits:retry"),
        Subcommand("batch", "Submit, read and cancel many audits at once.", f"{_COMMANDS}.batches:cli"),
        Subcommand("cancel", "Cancel an audit that has not ended.", f"{_COMMANDS}.audits:cancel"),
        Subcommand(
            "models",
            "List the models that the service can see; check a folder, or push one.",
            f"{_COMMANDS}.models:cli",
        ),
        Subcommand("keys", "Create, list and revoke API keys; needs the scope admin.", f"{_COMMANDS}.keys:cli"),
        Subcommand("library", "Manage benign libraries, which audits are compared with.", f"{_COMMANDS}.libraries:cli"),
        Subcommand("serve", "Run the whole stack on this machine until Ctrl-C. Needs the server."),
        Subcommand("doctor", "Check what the service depends on, and say what to do. Needs the server."),
    )


cli = typer.Typer(
    name="backdoor-audit",
    cls=Root,
    help="Audit a fine-tuned language model for behaviour conditioned on a trigger.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=(
        "Exit codes: 0 the verdict does not meet --fail-on, 1 it does, 2 no verdict: the audit failed or is invalid, "
        "3 the service could not be reached, 4 wrong usage, 130 interrupted (the audit continues)."
    ),
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(importlib.metadata.version("backdoor-audit"))
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


def whole_command() -> Any:
    """The command with every subcommand imported, for tools that read all of it."""
    group: Any = typer.main.get_command(cli)
    with typer.Context(group) as context:
        for name in group.list_commands(context):
            group.get_command(context, name)
    return group


def _failed(error: Exception) -> int:
    """Print what went wrong, and return the exit code."""
    # Imported here because the error tree needs pydantic, which --help and usage errors do not.
    from backdoor_audit.cli.outcomes import exit_for
    from backdoor_audit.cli.output.terminal import say
    from backdoor_audit.client.errors import ClientError

    if isinstance(error, ClientError):
        say(f"Error: {error.message}", *filter(None, (error.hint,)))
        return exit_for(error)
    say("".join(traceback.format_exception(error)).rstrip())
    return Exit.NOT_DONE


def run(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code; usage errors are 4 (typer would return 2)."""
    try:
        code = cli(args=arguments, standalone_mode=False, prog_name="backdoor-audit")
        return int(code or 0)
    except typer.TyperException as error:
        message = visible_lines(error.format_message())
        typer.echo(
            message if message.startswith("Usage:") else f"Error: {message}\nTry: backdoor-audit --help", err=True
        )
        return Exit.USAGE
    except typer.Abort:
        return Exit.INTERRUPTED
    except SystemExit as ended:  # typer's, after completion was shown or installed, or for a closed standard output
        return Exit.NOT_DONE if ended.code else Exit.PASSED
    except Exception as error:
        return _failed(error)


def app() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding cannot hold is written as escapes, instead of ending the command.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run())
