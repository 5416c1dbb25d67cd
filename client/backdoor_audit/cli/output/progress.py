"""Progress of a running audit: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from backdoor_audit.cli.output.listing import elapsed_and_left
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.text.foreign_text import visible

_LINE_STEP_PERCENT: Final = 10
_LINE_EVERY_S: Final = 30.0


class Watch:
    """Shows the states of one audit on ``console``; a context manager, called with every new state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shown: tuple[str, str | None, int, int | None] | None = None
        self._shown_at = 0.0
        self._shown_percent = 0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[stage]:<10}"),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0, stage="waiting", note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, audit: Audit) -> None:
        """Show one state."""
        stage = visible(audit.stage if audit.status == "running" and audit.stage else audit.status)
        note = ", ".join(filter(None, self._notes(audit)))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=audit.progress, stage=escape(stage), note=escape(note))
        elif self._worth_a_line(audit):
            line = f"{visible(audit.id)}  {stage:<10} {100 * audit.progress:3.0f}%" + (f"  {note}" if note else "")
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _notes(self, audit: Audit) -> Iterator[str]:
        if audit.queue_position is not None:
            yield f"place {audit.queue_position} in the queue"
        yield elapsed_and_left(audit)
        again = f"attempt {audit.attempt}" if audit.attempt > 1 else ""
        yield ": ".join(filter(None, (again, visible(audit.message or ""))))

    def _worth_a_line(self, audit: Audit) -> bool:
        state = (audit.status, audit.stage, audit.attempt, audit.queue_position)
        now, percent = time.monotonic(), round(100 * audit.progress)
        worth = (
            state != self._shown
            or percent >= self._shown_percent + _LINE_STEP_PERCENT
            or now - self._shown_at > _LINE_EVERY_S
        )
        if worth:
            self._shown, self._shown_at, self._shown_percent = state, now, percent
        return worth
