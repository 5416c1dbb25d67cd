"""Sections, tables and lists of text that cannot steer a terminal and is never parsed as markup."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backdoor_audit.contract.text.foreign_text import visible


def section(title: str, content: RenderableType) -> RenderableType:
    """A title, and what belongs under it."""
    return Group(Text(f"\n{title}", style="bold"), Padding(content, (0, 0, 0, 2)))


def new_table(*columns: str, numbers: Iterable[int] = ()) -> Table:
    """An empty table; ``numbers`` are the columns that are aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    right = set(numbers)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row; text is made visible first."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(visible(cell)) for cell in cells))


def bullets(lines: Iterable[str]) -> RenderableType:
    """A list, one item a line."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        add_row(table, "-", line)
    return table
