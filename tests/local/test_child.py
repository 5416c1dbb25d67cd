"""The log of a supervised process, whatever size somebody has given it."""

import os
import subprocess
import sys
from pathlib import Path

from local.child import Child, Launch

HUGE = 200 * 2**30


def test_a_log_of_any_size_is_trimmed_and_shown_without_being_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("the beginning\n")
    os.truncate(log, HUGE)
    with log.open("ab") as file:
        file.write(b"\nthe end\n")
    code = f"""
import resource
from pathlib import Path
from local.child import Child, Launch
resource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))
child = Child(Launch("worker", [], {{}}, Path({str(log)!r}), 1.0))
assert child.tail().endswith("the end"), child.tail()[-100:]
child.trim_log()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    assert log.stat().st_size == 0
    assert (tmp_path / "worker.log.1").stat().st_size == 50_000_000
    assert (tmp_path / "worker.log.1").read_bytes().endswith(b"the end\n")


def test_the_tail_is_of_the_latest_start(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("before\nafter\n")
    child = Child(Launch("worker", [], {}, log, 1.0), log_offset=len("before\n"))
    assert child.tail() == "  after"
    child.trim_log()
    assert log.read_text() == "before\nafter\n"
