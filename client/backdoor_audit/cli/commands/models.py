"""``backdoor-audit models``: the checkpoints that the service can see, and pushing one to its store."""

from pathlib import Path
from typing import Annotated

import typer

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson
from backdoor_audit.cli.output.listing import render_models
from backdoor_audit.cli.output.terminal import out, print_json, say

cli = typer.Typer(no_args_is_help=True)


@cli.command("list")
def models_list(context: typer.Context, as_json: AsJson = False) -> int:
    """List the checkpoints and adapters that the service can see."""
    with connect(context) as client:
        models = client.models()
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
    else:
        out().print(render_models(models))
    return Exit.PASSED


@cli.command("push")
def models_push(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A checkpoint or adapter, as safetensors.")],
    name: Annotated[
        str | None, typer.Option(help="Name in the store; default: made from the folder's name and content.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Upload a checkpoint to the service's store; an interrupted push resumes where it stopped."""
    with connect(context) as client:
        model = client.push(folder, name, say=say)
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        typer.echo(model.reference)
    return Exit.PASSED
