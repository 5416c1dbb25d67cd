"""``backdoor-audit keys``: creates, lists and revokes API keys, for administrators."""

from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.help import Commands
from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.terminal import out, print_json, print_line, say
from backdoor_audit.cli.short_ids import key_id as full_id
from backdoor_audit.client.responses import Key

cli = Commands(no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
_DAY_S = 86_400


@cli.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scopes: Annotated[
        str, typer.Option(help="Comma-separated: audits:read, audits:write, models:write, admin.")
    ] = "audits:read,audits:write",
    owner: Annotated[str | None, typer.Option(help="Owner of its audits. Default: you.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="Days until it expires. Default: never.")] = None,
    as_json: _AsJson = False,
) -> int:
    """Create a key. Its secret is printed to standard output and cannot be shown again."""
    requested = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    expires_in_s = None if expires_in_days is None else round(expires_in_days * _DAY_S)
    with connect(context) as client:
        key = client.create_key(name=name, scopes=requested, owner=owner, expires_in_s=expires_in_s)
    if as_json:
        print_json(key.model_dump(mode="json"))
    else:
        print_line(key.key or "")
        say(f"{key.id} of {key.owner}. Store the secret now: it cannot be shown again.")
    return Exit.PASSED


@cli.command("list")
def list_keys(context: typer.Context, as_json: _AsJson = False) -> int:
    """List the keys of every owner, including expired and revoked ones."""
    with connect(context) as client:
        keys = client.keys()
    if as_json:
        print_json([key.model_dump(mode="json") for key in keys])
    else:
        out().print(_table(keys))
    return Exit.PASSED


@cli.command("revoke")
def revoke(
    context: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id, or its beginning.")]
) -> int:
    """Revoke a key, effective immediately."""
    with connect(context) as client:
        key_id = full_id(client, key_id)
        client.revoke_key(key_id)
    print_line(f"{key_id} revoked")
    return Exit.PASSED


def _table(keys: list[Key]) -> RenderableType:
    if not keys:
        return Text("There are no keys.")
    table = new_table("id", "owner", "name", "scopes", "expires")
    for key in keys:
        ends = "" if key.expires_at is None else key.expires_at.isoformat(timespec="seconds")
        if key.revoked_at is not None:
            ends = f"revoked {key.revoked_at.isoformat(timespec='seconds')}"
        add_row(table, key.id, key.owner, key.name, " ".join(key.scopes), ends)
    return table
