"""The walls of the sandbox, each in a process of its own that tries to climb it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import is_gone
from tests.worker.conftest import wait_for
from worker.sandbox.confinement import cgroup_limits, default_memory_bytes

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="walls of the Linux kernel")


def run(code: str) -> Any:
    """Run ``code`` in a fresh interpreter, which prints JSON."""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@linux_only
def test_a_user_other_than_root_starts_only_so_many_threads() -> None:
    code = """
import os, resource, threading
from pathlib import Path
from worker.sandbox import confinement
from worker.sandbox.landlock import Reach
if os.getuid() == 0:  # the limit does not bind root
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
confinement._MOST_THREADS = 50
confinement.confine(memory_bytes=None, file_bytes=None, reach=Reach(readable=(Path("/proc"),)))
threading.stack_size(64 * 1024)
stop = threading.Event()
started = 0
try:
    for started in range(2_000):
        threading.Thread(target=stop.wait, daemon=True).start()
except RuntimeError:
    pass
print(started, flush=True)
os._exit(0)
"""
    assert 10 <= run(code) <= 60


@linux_only
def test_a_file_cannot_grow_past_its_limit(tmp_path: Path) -> None:
    code = f"""
import errno, json
from pathlib import Path
from worker.sandbox.confinement import confine
from worker.sandbox.landlock import Reach
confine(memory_bytes=None, file_bytes=1000, reach=Reach(writable=(Path({str(tmp_path)!r}),)))
try:
    with open({str(tmp_path / "big")!r}, "wb", buffering=0) as file:
        file.write(b"x" * 1000)
        file.write(b"x")
    print(json.dumps("written"))
except OSError as error:
    print(json.dumps(errno.errorcode[error.errno]))
"""
    assert run(code) == "EFBIG"


@linux_only
def test_memory_ends_in_an_error_not_in_a_kill() -> None:
    code = """
import json
from worker.sandbox.confinement import confine
from worker.sandbox.landlock import Reach
confine(memory_bytes=256 * 2**20, file_bytes=None, reach=Reach())
try:
    bytearray(2**30)
    print(json.dumps("allocated"))
except MemoryError:
    print(json.dumps("MemoryError"))
"""
    assert run(code) == "MemoryError"


@linux_only
def test_no_core_dumps_and_no_new_privileges() -> None:
    code = """
import json, resource
from pathlib import Path
from worker.sandbox.confinement import confine
from worker.sandbox.landlock import Reach
confine(memory_bytes=None, file_bytes=None, reach=Reach(readable=(Path("/proc"),)))
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), status["NoNewPrivs"].strip()]))
"""
    assert run(code) == [[0, 0], "1"]


NETWORK = """
import json, os, socket, tempfile
from worker.sandbox.confinement import leave_network
left = leave_network()
interfaces = [name for _, name in socket.if_nameindex()]
with tempfile.NamedTemporaryFile() as file:
    owner = os.stat(file.name).st_uid
print(json.dumps([left, interfaces, owner == os.geteuid()]))
"""


@linux_only
def test_no_network_is_left_where_that_is_permitted() -> None:
    left, interfaces, can_write = run(NETWORK)
    if not left:
        pytest.skip("this machine does not permit network namespaces")
    assert interfaces == ["lo"]
    assert can_write


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_an_ordinary_user_can_still_write_files() -> None:
    # Giving up root makes the process untraceable, which starting a program afresh would undo.
    become = """
import ctypes, os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
    imports, rest = NETWORK.split("left = ")
    left, interfaces, can_write = run(f"{imports}{become}left = {rest}")
    assert can_write
    if left:
        assert interfaces == ["lo"]


@linux_only
def test_it_dies_with_its_parent() -> None:
    child = """
import time
from worker.sandbox.confinement import die_with_parent
die_with_parent()
print(1, flush=True)
time.sleep(60)
"""
    parent = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(orphan), 10)  # it does not outlive its parent


def test_the_memory_limit_leaves_room_for_the_machine(tmp_path: Path) -> None:
    limit = default_memory_bytes("cpu")
    assert limit is not None
    assert 0 < limit < psutil.virtual_memory().total


def test_a_gpu_is_not_limited(tmp_path: Path) -> None:
    assert default_memory_bytes("cuda:0") is None
    assert default_memory_bytes("auto", gpu_nodes=[tmp_path]) is None
    assert default_memory_bytes("auto", gpu_nodes=[tmp_path / "none"]) is not None


def test_limits_of_every_control_group_above_count(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/system.slice/worker.service\n")
    for folder, text in (("", "max"), ("system.slice", "9000"), ("system.slice/worker.service", "7000")):
        (tmp_path / "v2" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v2" / folder / "memory.max").write_text(text + "\n")
    assert sorted(cgroup_limits(tmp_path / "v2", own)) == [7000, 9000]
    own.write_text("5:cpu:/elsewhere\n4:memory:/docker/abc\n")
    (tmp_path / "v1" / "memory" / "docker" / "abc").mkdir(parents=True)
    (tmp_path / "v1" / "memory" / "docker" / "abc" / "memory.limit_in_bytes").write_text("5000")
    assert cgroup_limits(tmp_path / "v1", own) == [5000]
    assert cgroup_limits(tmp_path / "none", tmp_path / "none") == []


def test_root_is_left_with_no_more_than_reading_and_writing_files() -> None:
    code = """
import json
from pathlib import Path
from worker.sandbox.confinement import confine
from worker.sandbox.landlock import Reach
walls = confine(memory_bytes=None, file_bytes=None, reach=Reach(readable=(Path("/proc"),)))
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps([walls["no_capabilities"], *(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapAmb"))]))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("capabilities are Linux's")
    stands, effective, permitted, ambient = run(code)
    assert stands
    assert effective | permitted <= 0b110
    assert ambient == 0
