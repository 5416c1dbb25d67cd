"""Subcommands that are imported only when they run, so that ``backdoor-audit --help`` is fast.

A command of the server's distribution is found through its entry point (group ``backdoor_audit.commands``), never by
import: if the server is not installed, the command says what to install.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import typer
from typer.core import TyperGroup

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.help import DocumentedCommand, document, write_environment

ENTRY_POINTS: Final = "backdoor_audit.commands"
INSTALL_SERVER: Final = "pip install 'backdoor-audit-server[local]'"


@dataclass(frozen=True)
class Subcommand:
    """A command's name, the line that ``--help`` shows, and where the command is.

    ``target`` is ``module:attribute``, a function or a ``typer.Typer``; None for a command of the server.
    """

    name: str
    summary: str
    target: str | None = None

    def load(self) -> Any:
        """The command itself, as typer runs it, with its examples and ``--url``."""
        command = self._command()
        document(command, self.name)
        return command

    def _command(self) -> Any:
        application = typer.Typer(add_completion=False, rich_markup_mode=None)
        loaded = self._target()
        if loaded is None:
            settings = {"ignore_unknown_options": True, "allow_extra_args": True}
            application.command(self.name, cls=DocumentedCommand, help=self.summary, context_settings=settings)(
                _missing(self.name)
            )
            return typer.main.get_command(application)
        if isinstance(loaded, typer.Typer):
            application.add_typer(loaded, name=self.name, help=self.summary)
            group: Any = typer.main.get_command(application)
            return group.commands[self.name]
        application.command(self.name, cls=DocumentedCommand, help=self.summary)(loaded)
        return typer.main.get_command(application)

    def _target(self) -> Any:
        if self.target is not None:
            module, _, attribute = self.target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=self.name):
            return entry_point.load()
        return None


def _missing(name: str) -> Callable[[], int]:
    """A command that says that it is not installed."""

    def missing() -> int:
        typer.echo(f"Error: {name} needs the server, which is not installed.\nInstall it: {INSTALL_SERVER}", err=True)
        return Exit.USAGE

    return missing


class LazyGroup(TyperGroup):
    """A group whose subcommands are imported when they are looked up."""

    subcommands: tuple[Subcommand, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return [each.name for each in self.subcommands]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in the base class, which suggests similar names only of commands that were imported."""
        try:
            return super().resolve_command(ctx, args)
        except typer.BadParameter:
            raise
        except typer.TyperException as error:
            close = get_close_matches(args[0], self.list_commands(ctx)) if args else []
            if close and "Did you mean" not in error.message:
                error.message += f" Did you mean {' or '.join(close)}?"
            raise

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a subcommand; None for an unknown name."""
        for each in self.subcommands:
            if each.name == cmd_name and cmd_name not in self.commands:
                self.commands[cmd_name] = each.load()
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(each.name, each.summary) for each in self.subcommands])
        write_environment(formatter)
