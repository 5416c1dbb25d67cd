"""``backdoor-audit models``: lists what the service can see, checks a folder, pushes one, deletes what was pushed."""

from pathlib import Path
from typing import Annotated

import typer

from backdoor_audit.cli.checking import check, lines
from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.help import Commands
from backdoor_audit.cli.lazy import INSTALL_SERVER
from backdoor_audit.cli.options.shared import AsJson
from backdoor_audit.cli.output.listing import render_models
from backdoor_audit.cli.output.terminal import out, print_json, print_line, say
from backdoor_audit.client.errors import WrongUsage

cli = Commands(no_args_is_help=True)


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


@cli.command("check")
def models_check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A checkpoint or an adapter.")],
    base: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Its base model.")] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="INTO", help="Write the checkpoint as an audit would read it.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List what an audit would accept, ignore, rewrite or refuse in a folder. Exits 1 if it is refused."""
    for each in (folder, *([] if base is None else [base])):
        if not each.is_dir():
            raise WrongUsage(f"{each} is not a folder", hint="name the folder of a checkpoint")
    try:
        result = check(folder, base, fix)
    except OSError as error:
        raise WrongUsage(
            f"{fix} cannot be written: {error.strerror}", hint="name a folder that does not exist yet"
        ) from error
    if result is None:
        say("Error: models check needs the server, which is not installed.", f"Install it: {INSTALL_SERVER}")
        return Exit.USAGE
    if as_json:
        print_json(result)
    else:
        for line in lines(folder, result):
            print_line(line)
    return Exit.PASSED if result["accepted"] else Exit.VERDICT_MET


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
    result = check(folder)
    if result is not None and not result["accepted"]:
        say(*lines(folder, result))
        return Exit.USAGE
    with connect(context) as client:
        model = client.push(folder, name, say=say)
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        print_line(f"store:{model.name}")
    return Exit.PASSED


@cli.command("delete")
def models_delete(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the store.")]
) -> int:
    """Delete a model of yours from the store, or an upload that was not committed."""
    name = name.removeprefix("store:")
    with connect(context) as client:
        client.delete_model(name)
    print_line(f"store:{name} deleted")
    return Exit.PASSED
