"""The output of a sandbox. It never has access to the worker's log: it writes to a pipe, and the worker decides what is
kept.

Each line becomes one event ``sandbox.said`` of the worker, with what a terminal would obey written out, so that no line
of the log was written by a stranger. A line, and all of them together, are bounded; the pipe is emptied to the end, so
that a sandbox that prints too much does not stand still.
"""

import contextvars
import os
import threading
from typing import Final

import structlog

from backdoor_audit.contract.text.foreign_text import visible

MAX_LINE_BYTES: Final = 4_000
MAX_BYTES: Final = 1_000_000
MAX_LINES: Final = 5_000
_JOIN_S: Final = 5.0

log = structlog.get_logger(__name__)


class Output(threading.Thread):
    """Reads what one sandbox prints, until it has ended.

    Args:
        reading: the reading end of the pipe; closed when the other end is.
    """

    def __init__(self, reading: int) -> None:
        super().__init__(name="output", daemon=True)
        self._reading = reading
        self._context = contextvars.copy_context()  # the log's audit and attempt
        self._rest = b""
        self._bytes = self._lines = self._dropped = 0

    def run(self) -> None:
        """Log it line by line."""
        self._context.run(self._drain)

    def finish(self) -> None:
        """Wait until everything is logged; to be called when the sandbox has ended."""
        self.join(_JOIN_S)

    def _drain(self) -> None:
        try:
            while chunk := os.read(self._reading, 1 << 16):
                self._take(chunk)
            if self._rest:
                self._say(self._rest)
        finally:
            os.close(self._reading)
            if self._dropped:
                log.warning("sandbox.muted", dropped_bytes=self._dropped)

    def _take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._say(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._say(self._rest)
            self._rest = b""

    def _say(self, line: bytes) -> None:
        kept = line[:MAX_LINE_BYTES]
        if self._lines >= MAX_LINES or self._bytes + len(kept) > MAX_BYTES:
            self._dropped += len(line)
            return
        self._lines += 1
        self._bytes += len(kept)
        self._dropped += len(line) - len(kept)
        log.info("sandbox.said", line=visible(kept.decode(errors="replace")))
