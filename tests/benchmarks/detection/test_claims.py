"""Two processes at one benchmark: nothing is done twice, and a killed one leaves nothing claimed."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.detection.__main__ import Run

HOLDER = """
import sys, time
from tests.benchmarks.detection.test_claims import run_in
from pathlib import Path
with run_in(Path(sys.argv[1])).claim("unit") as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


def run_in(folder: Path) -> Run:
    """A run whose data are below ``folder``."""
    return Run(argparse.Namespace(base=folder, data=folder, device="cpu", only=None, split=None, minutes=None))


def test_what_another_process_holds_is_left_alone_until_it_dies(tmp_path):
    run = run_in(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline().strip() == "True"
            with run.claim("unit") as ours, run.claim("another") as free:
                assert not ours
                assert free
        finally:
            other.send_signal(signal.SIGKILL)
        other.wait()
    with run.claim("unit") as ours:
        assert ours
