"""Records of measurements: single JSON files, or named lines of a JSON Lines file.

A file is always replaced by a complete new one, so a killed process leaves it unchanged. Several processes may write to
one JSON Lines file: each holds the folder's lock while it replaces the file.
"""

import contextlib
import fcntl
import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAME: Final = "record"


@dataclass(frozen=True)
class Line:
    """One record of a JSON Lines file; lines are sorted by name."""

    file: Path
    name: str

    def is_file(self) -> bool:
        """Whether there is such a record."""
        return self.name in _lines(self.file)

    def unlink(self) -> None:
        """Remove the record from the file.

        Raises:
            KeyError: there is no such record.
        """
        with _locked(self.file.parent):
            lines = dict(_lines(self.file))
            del lines[self.name]
            _write_lines(self.file, lines)


def read(place: Path | Line) -> dict[str, Any]:
    """A record.

    Raises:
        FileNotFoundError: there is no such record.
    """
    if isinstance(place, Path):
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        return found
    line = _lines(place.file).get(place.name)
    if line is None:
        raise FileNotFoundError(f"{place.file} holds no record named {place.name}")
    return _without_name(line)


def read_all(file: Path) -> dict[str, dict[str, Any]]:
    """All records of a JSON Lines file by name; none if there is no file."""
    return {name: _without_name(line) for name, line in _lines(file).items()}


def write(place: Path | Line, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    if isinstance(place, Path):
        _replace(place, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return
    line = json.dumps({NAME: place.name} | dict(record), ensure_ascii=False, separators=(",", ":"))
    with _locked(place.file.parent):
        _write_lines(place.file, {**_lines(place.file), place.name: line})


def _without_name(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    del found[NAME]
    return found


def _lines(file: Path) -> Mapping[str, str]:
    try:
        stamp = file.stat()
    except FileNotFoundError:
        return {}
    return _parsed(file, stamp.st_ino, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=8)
def _parsed(file: Path, *_stamp: int) -> Mapping[str, str]:
    """The lines by name, cached until the file changes."""
    text = file.read_text(encoding="utf-8")
    return {json.loads(line)[NAME]: line for line in text.split("\n") if line}


def _write_lines(file: Path, lines: Mapping[str, str]) -> None:
    _replace(file, "".join(f"{lines[name]}\n" for name in sorted(lines)))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; a killed process releases it."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
