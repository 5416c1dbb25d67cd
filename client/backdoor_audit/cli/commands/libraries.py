"""``backdoor-audit library``: manages scores of models known to be benign, with which audits are compared."""

from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from backdoor_audit.cli import short_ids
from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.help import Commands
from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.terminal import out, print_json, print_line, say
from backdoor_audit.client.responses import Entry, Library
from backdoor_audit.contract.benign_library import MIN_ENTRIES
from backdoor_audit.contract.text.formatting import number

cli = Commands(no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
_Name = Annotated[str, typer.Argument(metavar="LIBRARY", help="The library's name or id.")]


@cli.command("create")
def create(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")], as_json: _AsJson = False
) -> int:
    """Create an empty library."""
    with connect(context) as client:
        made = client.create_library(name)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        print_line(made.id)
        say(f"An audit needs {MIN_ENTRIES} comparable models: backdoor-audit library add {made.name} AUDIT")
    return Exit.PASSED


@cli.command("list")
def list_libraries(context: typer.Context, as_json: _AsJson = False) -> int:
    """List the libraries."""
    with connect(context) as client:
        libraries = client.libraries()
    if as_json:
        print_json([one.model_dump(mode="json") for one in libraries])
    else:
        out().print(_libraries(libraries))
    return Exit.PASSED


@cli.command("show")
def show(context: typer.Context, library: _Name, as_json: _AsJson = False) -> int:
    """Show the models of a library with their scores."""
    with connect(context) as client:
        shown = client.library(library)
        entries = client.library_entries(library)
    if as_json:
        models = [entry.model_dump(mode="json") for entry in entries]
        print_json(shown.model_dump(mode="json") | {"models": models})
    else:
        out().print(_entries(entries))
        if len(entries) < MIN_ENTRIES:
            say(f"{MIN_ENTRIES - len(entries)} more models are needed, comparable with the audit.")
    return Exit.PASSED


@cli.command("add")
def add(
    context: typer.Context,
    library: _Name,
    audit_id: Annotated[
        str,
        typer.Argument(metavar="AUDIT", help="Finished audit of a model that you know is benign."),
    ],
    recipe: Annotated[str | None, typer.Option(help="Name of how the model was trained.")] = None,
    because: Annotated[
        str | None,
        typer.Option(help="Why the model is benign; required if the audit's verdict is not no_evidence."),
    ] = None,
    as_json: _AsJson = False,
) -> int:
    """Add the score of an audited model. You vouch that the model is benign; nothing checks it."""
    with connect(context) as client:
        entry = client.add_to_library(library, short_ids.audit_id(client, audit_id), recipe, because=because)
    if as_json:
        print_json(entry.model_dump(mode="json"))
    else:
        print_line(entry.id)
    return Exit.PASSED


@cli.command("remove")
def remove(
    context: typer.Context,
    library: _Name,
    entry_id: Annotated[str, typer.Argument(metavar="ENTRY", help="Id, or its beginning.")],
) -> int:
    """Remove a model from a library."""
    with connect(context) as client:
        entry_id = short_ids.entry_id(client, library, entry_id)
        client.remove_from_library(library, entry_id)
    print_line(f"{entry_id} removed")
    return Exit.PASSED


@cli.command("delete")
def delete(context: typer.Context, library: _Name) -> int:
    """Delete a library with all its entries."""
    with connect(context) as client:
        client.delete_library(library)
    print_line(f"{library} deleted")
    return Exit.PASSED


def _libraries(libraries: list[Library]) -> RenderableType:
    if not libraries:
        return Text("There are no libraries. To create one: backdoor-audit library create NAME")
    table = new_table("name", "id", "models")
    for one in libraries:
        add_row(table, one.name, one.id, str(one.entries))
    return table


def _entries(entries: list[Entry]) -> RenderableType:
    if not entries:
        return Text("The library is empty.")
    table = new_table("entry", "model", "recipe", "effect (nats)", "score", "because")
    for one in entries:
        effect, score = number(one.effect_nats), number(one.score)
        add_row(table, one.id, one.fine_tuned, one.recipe or "", effect, score, one.because or "")
    return table
