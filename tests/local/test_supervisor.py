"""The supervisor in a process of its own, over small real children."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import is_gone

ROOT = Path(__file__).resolve().parents[2]

PARENT = """
import json, os, sys, time
from pathlib import Path
from local.errors import ChildFailed
from local.child import Launch
from local.supervisor import RestartPolicy, StopRequested, Supervisor

folder = Path(sys.argv[1])
scripts = json.loads(sys.argv[2])
supervisor = Supervisor(
    lambda name, line: print(name, line, flush=True),
    RestartPolicy(most=2, within_s=60, first_s=0.05, longest_s=0.1),
)
with supervisor.signals():
    try:
        for name, script in scripts.items():
            argv = [sys.executable, "-c", script, str(folder)]
            launch = Launch(name, argv, dict(os.environ), folder / (name + ".log"), float(sys.argv[3]))
            supervisor.start(launch)
        supervisor.wait_until(lambda: all((folder / (name + ".up")).exists() for name in scripts), "it", 20)
        print("up", flush=True)
        supervisor.watch()
    except StopRequested:
        print("stopping", flush=True)
    except ChildFailed as error:
        print("failed:", error.message, error.hint, flush=True)
    supervisor.stop(list(scripts))
    print("stopped", flush=True)
"""

# Each child writes its id, its own child's id, and then waits.
STEADY = """
import os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def stop(*_):
    with (folder / "order").open("a") as file:
        file.write("{name}\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, {handler})
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(folder / "{name}.pids").write_text(f"{{os.getpid()}} {{inner.pid}}")
(folder / "{name}.up").touch()
time.sleep(600)
"""

# Dies half a second after the other one is up, each time it is started.
FICKLE = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "fickle.up").touch()
while not (folder / "steady.up").exists():
    time.sleep(0.02)
time.sleep(0.5)
sys.exit(7)
"""


def _steady(name, handler="stop"):
    return STEADY.format(name=name, handler=handler)


def _start(folder, grace_s=1.0, **scripts):
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, str(folder), json.dumps(scripts), str(grace_s)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _read_until(process, word):
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if word in line:
            return lines
    pytest.fail(f"{word!r} never came: {lines}")


def _pids(folder, name):
    return [int(pid) for pid in (folder / f"{name}.pids").read_text().split()]


def _until(condition, within_s=20.0):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _gone(pids):
    return _until(lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_stops_the_children_in_order_and_leaves_none(tmp_path, number):
    process = _start(tmp_path, first=_steady("first"), second=_steady("second"))
    _read_until(process, "up")
    pids = _pids(tmp_path, "first") + _pids(tmp_path, "second")
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped" in out
    assert (tmp_path / "order").read_text().split() == ["first", "second"]
    assert _gone(pids)


def test_a_child_that_does_not_stop_is_killed_after_its_grace(tmp_path):
    process = _start(tmp_path, stubborn=_steady("stubborn", handler="signal.SIG_IGN"))
    _read_until(process, "up")
    pids = _pids(tmp_path, "stubborn")
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert "stubborn did not stop in time and was killed" in out
    assert _gone(pids)


def test_a_second_signal_does_not_wait_for_the_grace(tmp_path):
    heard = tmp_path / "heard"
    handler = f"lambda *_: Path({str(heard)!r}).touch()"
    process = _start(tmp_path, grace_s=600, stubborn=_steady("stubborn", handler=handler))
    _read_until(process, "up")
    process.send_signal(signal.SIGINT)
    assert _until(heard.exists)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)  # of a grace of 600
    assert "stubborn was killed" in out


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path):
    # What a child starts itself is that child's own business; here it binds nothing, so the children alone count.
    process = _start(tmp_path, first=_steady("first"), second=_steady("second"))
    _read_until(process, "up")
    children = [_pids(tmp_path, name)[0] for name in ("first", "second")]
    inner = [_pids(tmp_path, name)[1] for name in ("first", "second")]
    process.kill()
    process.wait()
    process.stdout.close()
    try:
        assert _gone(children)
    finally:
        for pid in inner:
            os.kill(pid, signal.SIGKILL)


def test_a_child_that_dies_is_started_again_and_what_it_left_is_killed(tmp_path):
    process = _start(tmp_path, first=_steady("first"))
    _read_until(process, "up")
    pids = _pids(tmp_path, "first")
    os.kill(pids[0], signal.SIGKILL)
    lines = _read_until(process, "started again")
    assert "first was ended by SIGKILL; starting again in 0.05 s" in lines
    assert _gone(pids)
    process.terminate()
    process.communicate(timeout=20)


def test_a_child_that_keeps_dying_ends_it_all(tmp_path):
    process = _start(tmp_path, fickle=FICKLE, steady=_steady("steady"))
    _read_until(process, "up")
    out, _ = process.communicate(timeout=30)
    assert out.count("started again") == 2
    assert "failed: fickle ended with exit code 7, 3 times in a row" in out
    assert _gone(_pids(tmp_path, "steady"))


def test_a_child_that_dies_before_it_is_ready_is_not_started_again_and_its_log_is_shown(tmp_path):
    process = _start(tmp_path, broken="import sys; print('the reason'); sys.exit(3)")
    out, _ = process.communicate(timeout=20)
    assert "failed: broken ended with exit code 3" in out
    assert "the reason" in out
    assert "started again" not in out
