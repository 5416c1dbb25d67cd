"""Keeps a few processes running, and leaves none behind.

Each child leads its own session, so that a Ctrl-C on the terminal reaches the supervisor alone, which then stops the
children in order. On Linux, each child is also tied to the supervisor: if that is killed, the kernel kills the
children.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from local.child import Child, Launch, ending
from local.errors import ChildFailed
from worker.sandbox.orphans import Orphans

_ORPHANS_S: Final = 5.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):
    """A stop signal arrived; not an error."""


@dataclass(frozen=True)
class RestartPolicy:
    """A child that died is restarted, at most ``most`` times within ``within_s`` seconds."""

    most: int = 5
    within_s: float = 300.0
    first_s: float = 0.5
    longest_s: float = 15.0

    def delay_s(self, deaths: int) -> float:
        """Seconds before the restart after this many recent deaths."""
        delay: float = self.first_s * 2 ** (deaths - 1)
        return min(self.longest_s, delay)


class Supervisor:
    """Starts children, watches them, restarts them, and stops them in the requested order.

    Runs in the main thread, inside :meth:`signals`. ``announce`` gets the name of a child and a short line. ``orphans``
    are the processes that this one is given when children of its children lose their parent.
    """

    def __init__(
        self,
        announce: Callable[[str, str], None],
        restart: RestartPolicy | None = None,
        orphans: Orphans | None = None,
    ) -> None:
        self._announce = announce
        self._orphans = orphans
        self._restart = restart or RestartPolicy()
        self._children: dict[str, Child] = {}
        self._signals: list[int] = []
        self._wake: int | None = None
        self._next_trim = 0.0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle the stop signals (and notice ended children immediately) for the duration of the block."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
        if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
            del before[signal.SIGHUP]
        old_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._wake = reader
        try:
            for number in before:
                signal.signal(number, self._received)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_writer)
            self._wake = None
            os.close(reader)
            os.close(writer)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:  # this signal only ends the sleep
            self._signals.append(number)

    def start(self, launch: Launch) -> None:
        """Start one more child and watch it from now on."""
        child = Child(launch)
        self._children[launch.name] = child
        child.start()

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Watch the children until ``ready``; none of them may die before.

        Raises:
            ChildFailed: a child died first, or the time ran out.
            StopRequested: a stop signal came first.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            self._doze(0.1)
            for child in self._children.values():
                code = child.exit_code()
                if code is not None:
                    raise ChildFailed(child.epitaph(code), hint=child.where())
            if time.monotonic() > end:
                raise ChildFailed(f"{what} was not ready within {timeout_s:g} seconds", hint=self._where_all())

    def watch(self) -> None:
        """Keep the children running until a stop signal.

        Raises:
            ChildFailed: a child died too often.
            StopRequested: a stop signal came.
        """
        while True:
            self._doze(1.0)
            now = time.monotonic()
            for child in self._children.values():
                self._tend(child, now)
            if now >= self._next_trim:
                self._next_trim = now + 60.0
                for child in self._children.values():
                    child.trim_log()

    def stop(self, order: Sequence[str]) -> None:
        """Stop the children one after another, each within its grace period; a further stop signal kills them all."""
        self._signals.clear()
        for name in order:
            child = self._children.get(name)
            if child is None or child.process is None:
                continue
            if child.exit_code() is None:
                child.signal(signal.SIGTERM)
                if not self._ended(child, child.launch.grace_s):
                    self._announce(name, "was killed" if self._signals else "did not stop in time and was killed")
            child.kill_group()
            child.process.wait()

    def kill_all(self) -> None:
        """Kill every child and whatever remains in its group, immediately."""
        for child in self._children.values():
            child.kill_group()
        for child in self._children.values():
            if child.process is not None:
                child.process.wait()
        self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill what children that have died left outside of their sessions."""
        if self._orphans is not None:
            living = [child.process.pid for child in self._children.values() if child.process is not None]
            self._orphans.end(living, timeout_s=_ORPHANS_S)

    def _ended(self, child: Child, grace_s: float) -> bool:
        """Whether the child ends by itself in time; a further stop signal ends the waiting."""
        end = time.monotonic() + grace_s
        while child.exit_code() is None:
            if self._signals or time.monotonic() > end:
                return False
            self._sleep(0.1)
        return True

    def _tend(self, child: Child, now: float) -> None:
        """Notice a death, and restart when it is time."""
        if child.start_at is not None:
            if now >= child.start_at:
                child.start()
                self._announce(child.launch.name, "started again")
            return
        code = child.exit_code()
        if code is None:
            return
        self._end_orphans()
        child.deaths.append(now)
        while child.deaths and child.deaths[0] < now - self._restart.within_s:
            child.deaths.popleft()
        if len(child.deaths) > self._restart.most:
            raise ChildFailed(f"{child.epitaph(code)}, {len(child.deaths)} times in a row", hint=child.where())
        delay = self._restart.delay_s(len(child.deaths))
        child.start_at = now + delay
        self._announce(child.launch.name, f"{ending(code)}; starting again in {delay:g} s")

    def _doze(self, seconds: float) -> None:
        """Sleep until a signal, the next planned start, or for that long; raises if the signal asks to stop."""
        planned = [child.start_at for child in self._children.values() if child.start_at is not None]
        if planned:
            seconds = max(0.0, min(seconds, min(planned) - time.monotonic()))
        if not self._signals:
            self._sleep(seconds)
        if self._signals:
            raise StopRequested

    def _sleep(self, seconds: float) -> None:
        if self._wake is None:
            time.sleep(seconds)
            return
        if select.select([self._wake], [], [], seconds)[0]:
            os.read(self._wake, 4096)

    def _where_all(self) -> str:
        return "\n".join(child.where() for child in self._children.values())
