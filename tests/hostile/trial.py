"""Trying a checkpoint under watch: what it was answered, what was opened, what it cost.

Audit hooks cannot be taken away again, so this belongs in a process of its own. Linux: peaks are read from ``/proc``.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models_store.errors import StoreError
from models_store.verification.verify import VerifiedCheckpoint, verify_checkpoint, verify_view
from models_store.view import write_view

MAX_CPU_S: Final = 2.0
MAX_BYTES: Final = 300 * 2**20
ACCEPTED: Final = "accepted"
CRASHED: Final = "crashed"

_OPENS: Final = frozenset({"open", "os.listdir", "os.scandir", "shutil.copyfile", "os.chdir"})
_NEVER: Final = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.", "urllib.",
                 "ctypes.dlopen", "marshal.", "code.__new__", "compile", "exec", "import")  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a checkpoint was answered.

    Attributes:
        outcome: a failure code, ``accepted``, or ``crashed`` for an error that is none of ours.
        message: the refusal, or the error's class and place.
        hint: what the refusal says to do.
        cpu_s: processor seconds; wall time would measure the machine's other work.
        grown_bytes: how far the process's memory peaked above where it stood before the first trial. What the
            allocator keeps from earlier trials counts as well: an upper bound.
        strayed: what was opened outside of the checkpoint, and events that no check may cause.
    """

    outcome: str
    message: str
    hint: str
    cpu_s: float
    grown_bytes: int
    strayed: tuple[str, ...]

    def wrong(self) -> str | None:
        """Why this answer breaks the promise, or None."""
        if self.outcome == CRASHED:
            return f"it crashed: {self.message}"
        if self.cpu_s > MAX_CPU_S:
            return f"it took {self.cpu_s:.2f} s"
        if self.grown_bytes > MAX_BYTES:
            return f"it took {self.grown_bytes} bytes"
        if self.strayed:
            return f"it strayed: {', '.join(self.strayed)}"
        if self.outcome != ACCEPTED and not (self.message and self.hint):
            return "it says nothing"
        return None

    def written(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass
class Watch:
    """Listens to the interpreter's audit events while a trial runs.

    Attributes:
        inside: the checkpoint that is tried.
        stood: the process's memory before the first trial, bytes.
        strayed: what was heard that should not be.
    """

    inside: Path | None = None
    stood: int = 0
    strayed: list[str] = field(default_factory=list)

    def install(self) -> "Watch":
        """Start to listen, for the rest of the process's life."""
        sys.addaudithook(self._hear)
        self.settle()
        return self

    def settle(self) -> None:
        """Measure memory from here on."""
        self.stood = _reset_peak()

    @contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Collect what leaves ``folder`` inside the block."""
        self.strayed.clear()
        self.inside = folder
        try:
            yield
        finally:
            self.inside = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if event in _OPENS:
            name = arguments[0]
            if isinstance(name, int):
                return  # a descriptor, whose opening was heard
            path = Path(os.path.realpath(os.fsdecode(name)))
            if not path.is_relative_to(self.inside):
                self.strayed.append(f"{event} {path}")
        elif event.startswith(_NEVER):
            self.strayed.append(event)


def verified(watch: Watch, folder: Path) -> Answer:
    """Verify a checkpoint under watch; of one that is taken, the message lists what was ignored, dropped and warned of.

    A view is written of what is taken, and must be taken again as it is, within the same limits.
    """
    first = answer(watch, folder, lambda: _notes(verify_checkpoint(folder)))
    if first.outcome != ACCEPTED:
        return first
    with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
        checkpoint = verify_checkpoint(folder)
        view = write_view(checkpoint, Path(parent) / "view")
        names = {path.relative_to(view.folder).as_posix() for path in view.folder.rglob("*") if not path.is_dir()}
        assert names == {file.name for file in checkpoint.files} | set(checkpoint.documents)
        # Its links lead into the checkpoint, so both folders lie inside what is watched.
        second = answer(watch, folder.parent, lambda: verify_view(view.folder, view.root))
    return first if second.wrong() is None and second.outcome == ACCEPTED else second


def _notes(checkpoint: VerifiedCheckpoint) -> str:
    return "; ".join((*checkpoint.ignored, *checkpoint.rewritten, *checkpoint.warnings))


def answer(watch: Watch, folder: Path, do: Callable[[], object]) -> Answer:
    """Do something with a checkpoint under watch."""
    outcome, message, hint = ACCEPTED, "", ""
    gc.collect()  # what an earlier trial left is not this one's
    _reset_peak()
    start = time.process_time()
    with watch.over(folder.resolve()):
        try:
            said = do()
            message = said if isinstance(said, str) else ""
        except StoreError as error:
            outcome, message, hint = error.code, error.message, error.hint
        except Exception as error:  # the point of the exercise
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
            outcome, message = CRASHED, f"{type(error).__name__} at {place}"
    cpu_s = time.process_time() - start
    return Answer(outcome, message, hint, cpu_s, max(_peak() - watch.stood, 0), tuple(watch.strayed[:5]))


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
